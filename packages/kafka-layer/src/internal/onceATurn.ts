/**
 * Calls that come in one turn of the event loop become one call in the next: a
 * message that wakes a loop must not make it look at each message by itself.
 */
export const onceATurn = (call: () => void): () => void => {
  let isScheduled = false
  return () => {
    if (isScheduled) return
    isScheduled = true
    setImmediate(() => {
      isScheduled = false
      call()
    })
  }
}
