import * as Effect from "effect/Effect"

/** Where the handlers collect: an array, and nothing that guards it. */
export const collector = <E>() => {
  const events: Array<E> = []
  return {
    events,
    collect: (event: E) => Effect.sync(() => void events.push(event)),
    collectAll: (all: Iterable<E>) => Effect.sync(() => void events.push(...all))
  }
}
