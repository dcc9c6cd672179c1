/** All that a run has done, as text: two runs are the same when it is. */
import type { Outcome } from "../run/run.ts"

/** The lines of a run, with the ids and the times of its messages. */
export const traceOf = (outcome: Outcome): ReadonlyArray<string> => [
  ...outcome.story.map(({ isFault, process, text, time }) => `${time} ${process}${isFault ? " !" : ""} ${text}`),
  ...(outcome.flow?.messages ?? []).map(({ message }) => JSON.stringify([message.topic, message.attributes])),
  String(outcome.flow ?? ""),
  JSON.stringify([outcome.broken, outcome.faults, outcome.steps, outcome.millis, outcome.fingerprint])
]

/** Where two runs begin to differ. */
export const firstDifference = (one: ReadonlyArray<string>, other: ReadonlyArray<string>): string | undefined => {
  const i = Array.from({ length: Math.max(one.length, other.length) }, (_, i) => i).find((i) => one[i] !== other[i])
  return i === undefined ? undefined : `first: ${one[i] ?? "(its end)"}\nthen:  ${other[i] ?? "(its end)"}`
}
