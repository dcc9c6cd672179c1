/** The client's consumer. What is asked of the leaders of partitions, it asks once. */
import { Consumer, kPerformWithRetry } from "@platformatic/kafka"
import type { Callback, CallbackWithPromise } from "@platformatic/kafka"

/**
 * Its retries go to the same broker again, while the leader may have moved: the layer asks for metadata in between.
 * Requests to the coordinator keep the client's retries, which look for the coordinator anew.
 */
export class GroupConsumer extends Consumer {
  override [kPerformWithRetry]<A>(
    operation: string,
    run: (callback: Callback<A>, attempt: number) => void,
    callback: CallbackWithPromise<A>,
    attempt?: number,
    errors?: Array<Error>,
    shouldSkipRetry?: (error: Error) => boolean,
    retries?: number
  ): void | Promise<A> {
    const limit = operation === "fetch" || operation === "listOffsets" ? 0 : retries
    return super[kPerformWithRetry](operation, run, callback, attempt, errors, shouldSkipRetry, limit)
  }
}
