/** The server that `npm run postgres` starts, durable as in production, or the one of DATABASE_URL. */
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

export const startServer = async (): Promise<{ readonly url: string; readonly end: () => Promise<void> }> => {
  const given = process.env["DATABASE_URL"]
  if (given !== undefined) return { url: given, end: async () => undefined }
  const child = spawn(process.execPath, [
    fileURLToPath(new URL("../../scripts/postgres.ts", import.meta.url)),
    "--durable"
  ], { stdio: ["ignore", "pipe", "inherit"] })
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()))
  for await (const line of createInterface(child.stdout)) {
    const url = /^DATABASE_URL=(.+)$/.exec(line)?.[1]
    if (url === undefined) continue
    return {
      url,
      end: async () => {
        child.kill("SIGTERM")
        await ended
      }
    }
  }
  throw new Error("the database did not start")
}
