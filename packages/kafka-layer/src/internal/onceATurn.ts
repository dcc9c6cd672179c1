import type * as Scheduler from "effect/Scheduler"

/**
 * Calls that come in one turn of the event loop become one call in the next: a
 * message that wakes a loop must not make it look at each message by itself.
 */
export const onceATurn = (scheduler: Scheduler.Scheduler, call: () => void): () => void => {
  const dispatcher = scheduler.makeDispatcher()
  let isScheduled = false
  const run = () => {
    isScheduled = false
    call()
  }
  return () => {
    if (isScheduled) return
    isScheduled = true
    dispatcher.scheduleTask(run, 0)
  }
}
