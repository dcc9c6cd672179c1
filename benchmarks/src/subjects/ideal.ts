/** The timer floor of W4: three sleeps of 1 ms in a row, ten rows at a time, and nothing else. */
import type { Subject } from "../subject.ts"
import { fanOut, tally } from "../workload.ts"

const sleep = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1))

const row = async (): Promise<void> => {
  for (let i = 0; i < 3; i++) {
    tally.handlers += 1
    await sleep()
  }
}

const subject: Subject = {
  name: "ideal",
  packages: [],
  setup: (workload) => {
    if (workload !== "W4") {
      return undefined
    }
    return async (units) => {
      for (let unit = 0; unit < units; unit++) {
        await Promise.all(Array.from({ length: fanOut }, row))
      }
    }
  }
}

export default subject
