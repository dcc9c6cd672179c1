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

/** The items whose text an earlier item has. */
export const repeated = <A>(items: ReadonlyArray<A>, textOf: (item: A) => string): ReadonlyArray<A> => {
  const seen = new Set<string>()
  return items.filter((item) => {
    const size = seen.size
    return seen.add(textOf(item)).size === size
  })
}
