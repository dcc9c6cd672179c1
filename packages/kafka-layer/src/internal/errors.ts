/** What an error of the client means for this layer. */
import * as Broker from "@event-flow/core/Broker"
import { protocolErrorsCodesById, TimeoutError } from "@platformatic/kafka"

/**
 * - `unreachable`: no connection, or it broke.
 * - `timeout`: there was no answer in time, or the replicas did not have it in time.
 * - `stale`: leaders have moved; ask for metadata and try again.
 * - `unknownTopic`, `tooLarge`, `unauthorised`: as their names say.
 * - `producerState`: the broker does not know this producer's sequence number.
 * - `duplicate`: the broker has the batch already.
 * - `generation`: the group has a new generation without this member.
 * - `outOfRange`: the partition does not have this offset.
 * - `session`: the broker does not know the fetch session.
 * - `busy`: the broker is not ready; try again.
 * - `invalidRecord`: the broker refuses a record of the batch.
 * - `other`: refused for good.
 */
export type Kind =
  | "unreachable"
  | "timeout"
  | "stale"
  | "unknownTopic"
  | "tooLarge"
  | "unauthorised"
  | "producerState"
  | "duplicate"
  | "generation"
  | "outOfRange"
  | "session"
  | "busy"
  | "invalidRecord"
  | "other"

export interface Failure {
  readonly kind: Kind
  readonly detail: string
  readonly cause: unknown
}

const kindsByCode: Readonly<Record<number, Kind>> = {
  1: "outOfRange",
  3: "unknownTopic",
  5: "stale",
  6: "stale",
  7: "timeout",
  8: "stale",
  9: "stale",
  10: "tooLarge",
  13: "unreachable",
  14: "busy",
  15: "busy",
  16: "stale",
  17: "unknownTopic",
  18: "tooLarge",
  19: "busy",
  20: "timeout",
  22: "generation",
  25: "generation",
  27: "generation",
  29: "unauthorised",
  30: "unauthorised",
  31: "unauthorised",
  45: "producerState",
  46: "duplicate",
  47: "producerState",
  53: "unauthorised",
  56: "stale",
  58: "unauthorised",
  59: "producerState",
  70: "session",
  71: "session",
  72: "stale",
  74: "stale",
  75: "stale",
  78: "busy",
  82: "generation",
  87: "invalidRecord",
  88: "busy",
  89: "busy",
  90: "producerState",
  100: "unknownTopic",
  103: "stale",
  106: "session"
}

export const kindOfCode = (code: number): Kind => kindsByCode[code] ?? "other"

export const nameOfCode = (code: number): string =>
  (protocolErrorsCodesById as Readonly<Record<number, string>>)[code] ?? `error ${code}`

/** Whether trying again may help, for a publisher within its `publishTimeout`. */
export const isRetryable = (kind: Kind): boolean =>
  kind === "unreachable" || kind === "timeout" || kind === "stale" || kind === "busy" || kind === "session"

/**
 * Whether a broker that answers a produce request with this may have written the batch all the same. While it waits for
 * the replicas, a broker that loses its partition answers NOT_LEADER_OR_FOLLOWER, or that it does not know it; the batch
 * is in its log, and may be in that of the new leader.
 */
export const mayBeWritten = (kind: Kind): boolean =>
  kind === "timeout" || kind === "stale" || kind === "unreachable" || kind === "unknownTopic"

/** The failure that an error of the client stands for; of nested errors, the most telling one. */
export const describe = (error: unknown): Failure => {
  const leaves: Array<unknown> = []
  collectLeaves(error, leaves)
  let best: Failure | undefined
  for (const leaf of leaves) {
    const failure = describeLeaf(leaf, error)
    if (best === undefined || severity[failure.kind] > severity[best.kind]) best = failure
  }
  return best ?? { kind: "other", detail: String(error), cause: error }
}

/** The fields of every reason. */
export const reasonFields = ({ cause, detail }: Failure): { readonly detail: string; readonly cause?: unknown } =>
  cause === undefined ? { detail } : { detail, cause }

/** Why the broker refuses a subscription. */
export const refusalReason = (
  failure: Failure
): Broker.UnknownTopic | Broker.NotAuthorised | Broker.Rejected => {
  const fields = reasonFields(failure)
  if (failure.kind === "unknownTopic") return new Broker.UnknownTopic(fields)
  return failure.kind === "unauthorised" ? new Broker.NotAuthorised(fields) : new Broker.Rejected(fields)
}

/** The reason of a `PublishError`. */
export const publishReason = (failure: Failure): Broker.PublishReason => {
  const fields = reasonFields(failure)
  switch (failure.kind) {
    case "unreachable":
    case "stale":
    case "busy":
    case "session":
      return new Broker.Unreachable(fields)
    case "timeout":
      return new Broker.Timeout(fields)
    case "unknownTopic":
      return new Broker.UnknownTopic(fields)
    case "tooLarge":
      return new Broker.MessageTooLarge(fields)
    case "unauthorised":
      return new Broker.NotAuthorised(fields)
    default:
      return new Broker.Rejected(fields)
  }
}

// --- internal ---

// A refusal says more than the connection that broke after it
const severity: Readonly<Record<Kind, number>> = {
  session: 0,
  stale: 1,
  busy: 2,
  unreachable: 3,
  timeout: 4,
  other: 5,
  duplicate: 6,
  outOfRange: 6,
  invalidRecord: 6,
  producerState: 7,
  generation: 8,
  tooLarge: 9,
  unknownTopic: 9,
  unauthorised: 10
}

const collectLeaves = (error: unknown, leaves: Array<unknown>): void => {
  if (error instanceof AggregateError && error.errors.length > 0) {
    for (const nested of error.errors) collectLeaves(nested, leaves)
  } else {
    leaves.push(error)
  }
}

const describeLeaf = (leaf: unknown, whole: unknown): Failure => {
  if (!(leaf instanceof Error)) return { kind: "other", detail: String(leaf), cause: whole }
  const properties = leaf as Error & { code?: unknown; apiCode?: unknown; apiId?: unknown; closed?: unknown }
  const detail = typeof properties.apiId === "string" ? `${properties.apiId}: ${leaf.message}` : leaf.message
  const make = (kind: Kind): Failure => ({ kind, detail, cause: whole })
  // Its `code` is that of a broken connection. A connection that was not made in time sent nothing
  if (leaf instanceof TimeoutError) return make(leaf.message.startsWith("Connection") ? "unreachable" : "timeout")
  if (typeof properties.apiCode === "number") return make(kindOfCode(properties.apiCode))
  switch (properties.code) {
    case "PLT_KFK_AUTHENTICATION":
      return make("unauthorised")
    case "PLT_KFK_NETWORK": {
      const inner = leaf.cause === undefined ? undefined : describe(leaf.cause)
      return inner !== undefined && (inner.kind === "unauthorised" || inner.kind === "unreachable")
        ? { ...inner, detail: `${leaf.message} ${inner.detail}`, cause: whole }
        : make("unreachable")
    }
    case "PLT_KFK_UNEXPECTED_CORRELATION_ID":
      return make("unreachable")
    case "PLT_KFK_USER":
      if (leaf.message.startsWith("Unknown topic")) return make("unknownTopic")
      if (leaf.message.startsWith("Cannot find broker")) return make("stale")
      return make("other")
    case "ECONNREFUSED":
    case "ECONNRESET":
    case "EPIPE":
    case "ETIMEDOUT":
    case "ENOTFOUND":
    case "EAI_AGAIN":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "ECONNABORTED":
      return make("unreachable")
    default:
      return make("other")
  }
}
