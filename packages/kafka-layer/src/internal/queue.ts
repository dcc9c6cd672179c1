/** The first item of a `MutableList`, and taking it where there may be none. */
import * as MutableList from "effect/MutableList"

export type Queue<A> = MutableList.MutableList<A>

export const peek = <A>({ head }: Queue<A>): A | undefined => head?.array[head.offset]

export const shift = <A>(queue: Queue<A>): A | undefined => {
  const item = MutableList.take(queue)
  return item === MutableList.Empty ? undefined : item
}
