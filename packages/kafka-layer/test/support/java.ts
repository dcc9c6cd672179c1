/** Runs `Interop.java` with Kafka's own client. */
import { jarsDirectory } from "@event-flow/test-support/kafkaServer"
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"

const program = fileURLToPath(new URL("Interop.java", import.meta.url))

/** Why Java's client cannot be run here; undefined where it can. */
export const noJava: string | undefined = jarsDirectory() === undefined
  ? "Kafka's jars are not on this machine"
  : spawnSync("javac", ["-version"], { stdio: "ignore" }).status === 0
  ? undefined
  : "there is no Java compiler"

export const java = (...args: ReadonlyArray<string>): ReadonlyArray<string> => {
  const result = spawnSync("java", ["-cp", `${jarsDirectory()}/*`, program, ...args], {
    encoding: "utf8",
    timeout: 120_000
  })
  if (result.status !== 0) throw new Error(result.stderr)
  return result.stdout.trim().split("\n")
}
