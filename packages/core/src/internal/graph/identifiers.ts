/**
 * An identifier for each item: its own text, or that text with a number where an
 * earlier item has the same. The order of the items decides who gets the number.
 */
export const identifiers = <A>(items: Iterable<A>, textOf: (item: A) => string): ReadonlyMap<A, string> => {
  const ids = new Map<A, string>()
  const taken = new Set<string>()
  for (const item of items) {
    const text = textOf(item)
    let id = text
    for (let n = 2; taken.has(id); n++) id = `${text}_${n}`
    taken.add(id)
    ids.set(item, id)
  }
  return ids
}
