import type * as Scheduler from "effect/Scheduler"

/**
 * Calls in one turn of the event loop become one call in the next turn, so that a
 * loop that is woken by messages sees all messages of a turn at once.
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
