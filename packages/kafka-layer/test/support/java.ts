/** Runs `Interop.java` with Kafka's own client. */
import { jarsDirectory } from "@event-flow/test-support/kafkaNode"
import { startCommand } from "@event-flow/test-support/program"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"

const program = fileURLToPath(new URL("Interop.java", import.meta.url))

/** Why Java's client cannot be run here, and what helps; undefined where it can. */
export const noJava: string | undefined = jarsDirectory() === undefined
  ? "no jars of Kafka: install Java and Maven, which fetches them, and unset KAFKA_BOOTSTRAP_SERVERS"
  : spawnSync("javac", ["-version"], { stdio: "ignore" }).status === 0
  ? undefined
  : "no Java compiler: install a JDK"

const run = (command: string, ...args: ReadonlyArray<string>): string => {
  const result = spawnSync(command, args, { encoding: "utf8", timeout: 120_000 })
  if (result.status !== 0) throw new Error(`${command} ended with ${result.status ?? result.signal}: ${result.stderr}`)
  return result.stdout
}

/** Compiled once, for several runs. */
let classes: string | undefined

const compiled = (): string => {
  if (classes === undefined) {
    const directory = mkdtempSync(join(tmpdir(), "event-flow-java-"))
    process.once("exit", () => rmSync(directory, { recursive: true, force: true }))
    run("javac", "-cp", `${jarsDirectory()}/*`, "-d", directory, program)
    classes = directory
  }
  return classes
}

const interop = (): ReadonlyArray<string> => [
  "-XX:+UseSerialGC",
  "-XX:TieredStopAtLevel=1",
  "-cp",
  `${compiled()}${delimiter}${jarsDirectory()}/*`,
  "Interop"
]

export const java = (...args: ReadonlyArray<string>): ReadonlyArray<string> =>
  run("java", ...interop(), ...args).trim().split("\n")

/** A program that goes on until its scope ends. */
export const startJava = (args: ReadonlyArray<string>, onLine: (line: string) => void) =>
  Effect.suspend(() => startCommand("java", [...interop(), ...args], onLine))
