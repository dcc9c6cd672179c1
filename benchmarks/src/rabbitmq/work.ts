/** The work that every subject does, the same bytes for all. */

export const keys = 5_000
/** Publishes that wait for their confirmation at any time. */
export const inFlight = 1_000
/** Unacknowledged messages that the server sends ahead. */
export const prefetch = 200
export const exchange = "event-flow"
export const group = "bench"

const padding = "x".repeat(150)

export interface Work {
  readonly key: string
  readonly id: string
  readonly type: string
  readonly body: Buffer
}

/** Message number `i`: about 300 bytes, a CloudEvent in binary mode. */
export const work = (i: number): Work => ({
  key: `key-${i % keys}`,
  id: `id-${i}`,
  type: "Measured.v1",
  body: Buffer.from(`{"i":${i},"padding":"${padding}"}`)
})

/** What a subject's process is asked to do. */
export interface Task {
  readonly workload: "publish" | "consume"
  readonly url: string
  readonly topic: string
  /** The queue of the topic, which exists. */
  readonly queue: string
  /** Messages that are not measured: everything is compiled after them. */
  readonly warmUp: number
  readonly count: number
}

export interface Result {
  readonly perSecond: number
  /** Of this process, in microseconds. */
  readonly cpuPerMessage: number
}

/** Measures from the end of the warm-up to the last message. */
export class Meter {
  readonly #task: Task
  #seen = 0
  #start = 0
  #cpu: NodeJS.CpuUsage | undefined
  #resolve!: (result: Result) => void
  readonly done = new Promise<Result>((resolve) => {
    this.#resolve = resolve
  })
  constructor(task: Task) {
    this.#task = task
  }

  tick(): void {
    const seen = ++this.#seen
    const { count, warmUp } = this.#task
    if (seen === warmUp) {
      this.#start = performance.now()
      this.#cpu = process.cpuUsage()
    }
    if (seen === warmUp + count) {
      const seconds = (performance.now() - this.#start) / 1_000
      const { system, user } = process.cpuUsage(this.#cpu)
      this.#resolve({
        perSecond: Math.round(count / seconds),
        cpuPerMessage: Math.round((user + system) / count * 10) / 10
      })
    }
  }
}

/** Runs the task that the command line gives, prints the result and ends. */
export const main = async (run: (task: Task) => Promise<Result>): Promise<void> => {
  const task = JSON.parse(process.argv[2]!) as Task
  const result = await run(task)
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0))
}
