/** The work that every subject does, the same bytes for all. */

export const partitions = 4
export const keys = 5_000
/** Publishes that wait for their acknowledgement at any time. */
export const inFlight = 1_000

/** Messages that are handled at once, and those that are taken and not acknowledged. */
export const concurrency = 16
export const maxInFlight = 2_000

const padding = "x".repeat(150)

export interface Work {
  readonly key: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

/** Message number `i`: about 300 bytes, a CloudEvent in binary mode. */
export const work = (i: number): Work => ({
  key: `key-${i % keys}`,
  headers: {
    "ce_specversion": "1.0",
    "ce_id": `id-${i}`,
    "ce_type": "Measured.v1",
    "ce_source": "/bench",
    "content-type": "application/json"
  },
  body: Buffer.from(`{"i":${i},"padding":"${padding}"}`)
})

/** What a subject's process is asked to do. */
export interface Task {
  readonly workload: "publish" | "consume"
  readonly servers: ReadonlyArray<string>
  readonly topic: string
  /** Messages that are not measured: everything is compiled after them. */
  readonly warmUp: number
  readonly count: number
}

export interface Result {
  readonly perSecond: number
  /** The most memory in use while consuming, in MiB. */
  readonly rss: number
}

/** Measures from the end of the warm-up to the last message. */
export class Meter {
  readonly #task: Task
  #seen = 0
  #start = 0
  #resolve!: (result: Result) => void
  #rss = 0
  readonly done = new Promise<Result>((resolve) => {
    this.#resolve = resolve
  })
  constructor(task: Task) {
    this.#task = task
  }

  tick(): void {
    const seen = ++this.#seen
    if (seen === this.#task.warmUp) this.#start = performance.now()
    if (seen % 20_000 === 0) this.#rss = Math.max(this.#rss, process.memoryUsage.rss())
    if (seen === this.#task.warmUp + this.#task.count) {
      const seconds = (performance.now() - this.#start) / 1_000
      this.#resolve({ perSecond: Math.round(this.#task.count / seconds), rss: Math.round(this.#rss / 2 ** 20) })
    }
  }
}

/** Calls `publish` for all messages, `inFlight` at once. */
export const publishAll = async (task: Task, publish: (i: number) => Promise<unknown>): Promise<Result> => {
  const meter = new Meter(task)
  const total = task.warmUp + task.count
  let next = 0
  const worker = async () => {
    while (next < total) {
      await publish(next++)
      meter.tick()
    }
  }
  await Promise.all(Array.from({ length: inFlight }, worker))
  return meter.done
}

/** Runs the task that the command line gives, prints the result and ends. */
export const main = async (run: (task: Task) => Promise<Result>): Promise<void> => {
  const task = JSON.parse(process.argv[2]!) as Task
  const result = await run(task)
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0))
}
