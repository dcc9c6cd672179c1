/** One node of Kafka from Maven Central's jars: a process that can be stopped, killed, frozen and started again. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { randomBytes } from "node:crypto"
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync
} from "node:fs"
import { connect } from "node:net"
import { homedir } from "node:os"
import { join } from "node:path"
import { until } from "./process.ts"

export const kafkaVersion = "4.1.0"

/** Where the jars are, for Java programs of tests; undefined where they were not needed. */
export const jarsDirectory = (): string | undefined => jarsAreThere() ? join(cacheDirectory(), "libs") : undefined

export const jarsAreThere = (): boolean => existsSync(join(cacheDirectory(), "libs"))

/** A dash at its beginning would be read as an option. */
export const newClusterId = (): string => `k${randomBytes(16).toString("base64url").slice(1)}`

export const accepts = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1")
    socket.setTimeout(1000)
    const end = (result: boolean) => {
      socket.destroy()
      resolve(result)
    }
    socket.once("connect", () => end(true))
    socket.once("error", () => end(false))
    socket.once("timeout", () => end(false))
  })

export class KafkaNode {
  /** Of its configuration, data and log. */
  readonly directory: string
  readonly #heap: string
  readonly #onExit = () => {
    this.#child?.kill("SIGKILL")
    rmSync(this.directory, { recursive: true, force: true })
  }
  #child: ChildProcess | undefined

  constructor(directory: string, heap: string) {
    this.directory = directory
    this.#heap = heap
    mkdirSync(directory, { recursive: true })
    process.once("exit", this.#onExit)
  }

  /** Where its data are. */
  get data(): string {
    return join(this.directory, "data")
  }

  /** Writes its configuration, which counts from the next start on. */
  configure(properties: Readonly<Record<string, string>>): void {
    const all = { ...properties, "log.dirs": this.data }
    writeFileSync(this.#configuration, Object.entries(all).map(([name, value]) => `${name}=${value}\n`).join(""))
  }

  /** Prepares its storage. */
  format(clusterId: string, ...options: ReadonlyArray<string>): void {
    const result = spawnSync("java", [
      "-XX:TieredStopAtLevel=1",
      "-XX:+UseSerialGC",
      "-cp",
      join(libraries(), "*"),
      "kafka.tools.StorageTool",
      "format",
      "-t",
      clusterId,
      "-c",
      this.#configuration,
      ...options
    ], { encoding: "utf8" })
    if (result.status !== 0) throw new Error(`Kafka's storage could not be formatted: ${result.stdout}${result.stderr}`)
  }

  /** Starts it, and waits until it accepts connections at this port. */
  async start(port: number): Promise<void> {
    const logFile = join(this.directory, "server.log")
    const log = openSync(logFile, "a")
    const started = spawn("java", [
      `-Xmx${this.#heap}`,
      "-XX:+UseSerialGC",
      "-XX:TieredStopAtLevel=1",
      "-cp",
      join(libraries(), "*"),
      "kafka.Kafka",
      this.#configuration
    ], { stdio: ["ignore", log, log], detached: false })
    closeSync(log)
    this.#child = started
    try {
      await until("Kafka accepts connections", () => {
        if (started.exitCode !== null) {
          throw new Error(`Kafka ended with ${started.exitCode}: ${readFileSync(logFile, "utf8").slice(-2000)}`)
        }
        return accepts(port)
      })
    } catch (error) {
      started.kill("SIGKILL")
      throw error
    }
  }

  /** Stops it in an orderly way, or kills it. Its data are kept. */
  async end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const running = this.#child
    if (running === undefined) return
    this.#child = undefined
    const ended = running.exitCode !== null || running.signalCode !== null
      ? Promise.resolve()
      : new Promise((resolve) => running.once("exit", resolve))
    running.kill(signal)
    // An orderly stop that takes too long would hold up everybody, and a frozen process does not stop
    const patience = setTimeout(() => running.kill("SIGKILL"), 30_000)
    await ended
    clearTimeout(patience)
  }

  /** Its connections stay open, new ones are accepted, nothing is answered. */
  freeze(): void {
    this.#child?.kill("SIGSTOP")
  }

  thaw(): void {
    this.#child?.kill("SIGCONT")
  }

  /** Ends it for good and removes its files. */
  async dispose(): Promise<void> {
    process.removeListener("exit", this.#onExit)
    await this.end("SIGKILL")
    rmSync(this.directory, { recursive: true, force: true })
  }

  get #configuration(): string {
    return join(this.directory, "server.properties")
  }
}

// --- internal ---

const cacheDirectory = (): string =>
  join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "event-flow", `kafka-${kafkaVersion}`)

const pom = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>local</groupId><artifactId>kafka-libs</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>${kafkaVersion}</version>
  </dependency></dependencies>
</project>
`

/** Fetches the jars once; a directory appears under its final name only when it is complete. */
const libraries = (): string => {
  const libs = join(cacheDirectory(), "libs")
  if (existsSync(libs)) return libs
  mkdirSync(cacheDirectory(), { recursive: true })
  const work = mkdtempSync(join(cacheDirectory(), "fetch-"))
  try {
    writeFileSync(join(work, "pom.xml"), pom)
    const result = spawnSync("mvn", ["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"], {
      cwd: work,
      encoding: "utf8",
      timeout: 300_000
    })
    if (result.status !== 0) throw new Error(`Kafka's jars could not be fetched: ${result.stdout}${result.stderr}`)
    try {
      renameSync(join(work, "libs"), libs)
    } catch (error) {
      // Another process was faster
      if (!existsSync(libs)) throw error
    }
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return libs
}
