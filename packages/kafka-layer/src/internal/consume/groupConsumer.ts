/** The client's consumer, which finds leaders and coordinators that have moved. */
import { Consumer, kGetConnection, kPerformWithRetry, NetworkError } from "@platformatic/kafka"
import type { Broker, Callback, CallbackWithPromise, Connection } from "@platformatic/kafka"

export class GroupConsumer extends Consumer {
  /**
   * A coordinator that is gone from the metadata is forgotten as well. The client forgets the metadata alone, and looks
   * for the same coordinator in the next ones, until that broker is back.
   */
  override [kGetConnection](broker: Broker | undefined, callback: Callback<Connection>): void {
    if (broker !== undefined) return super[kGetConnection](broker, callback)
    this.clearMetadata()
    callback(new NetworkError("The metadata do not have the broker"))
  }

  /**
   * What is asked of the leaders of partitions is asked once. The client's retries go to the same broker again, while
   * the leader may have moved: the layer asks for metadata in between. Requests to the coordinator keep the client's
   * retries, which look for the coordinator anew.
   */
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
