/** PgBouncer in front of a PostgreSQL server, in transaction mode. */
import { spawn, spawnSync } from "node:child_process"
import { chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { freePort, until } from "./process.ts"

export interface PgBouncer {
  /** The address given to `startPgBouncer`, with the pooler's port. */
  readonly url: string
  readonly close: () => Promise<void>
}

/** Debian has it in a directory of the administrator. */
const environment = () => ({ ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin` })

/** Why there is none; undefined where there is one. */
export const noPgBouncer = (): string | undefined =>
  spawnSync("pgbouncer", ["--version"], { env: environment() }).status === 0
    ? undefined
    : "no pgbouncer: apt-get install pgbouncer"

/** Starts one for a server of PostgreSQL, with five connections for each database. */
export const startPgBouncer = async (address: string): Promise<PgBouncer> => {
  const url = new URL(address)
  const [user, password] = [url.username, url.password].map(decodeURIComponent)
  const directory = mkdtempSync(join(tmpdir(), "event-flow-pgbouncer-"))
  const port = await freePort()
  const file = (name: string, text: string): string => {
    const path = join(directory, name)
    writeFileSync(path, text)
    return path
  }
  const users = file("users.txt", `"${user}" "${password}"\n`)
  const settings = file(
    "pgbouncer.ini",
    `[databases]
* = host=${url.hostname} port=${url.port} user=${user} password=${password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = plain
auth_file = ${users}
pool_mode = transaction
default_pool_size = 5
`
  )
  // It refuses to run as root
  const nobody = process.getuid?.() === 0
    ? { uid: Number(spawnSync("id", ["-u", "nobody"], { encoding: "utf8" }).stdout) }
    : undefined
  if (nobody !== undefined) { for (const path of [directory, users, settings]) chownSync(path, nobody.uid, nobody.uid) }
  const child = spawn("pgbouncer", ["-q", settings], { ...nobody, env: environment(), stdio: "ignore" })
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()))
  const close = async () => {
    child.kill("SIGTERM")
    child.kill("SIGKILL")
    await ended
    rmSync(directory, { recursive: true, force: true })
  }
  try {
    await until("pgbouncer", () =>
      new Promise<boolean>((resolve) => {
        const socket = connect(port, "127.0.0.1")
        socket.once("connect", () => {
          socket.destroy()
          resolve(true)
        })
        socket.once("error", () => resolve(false))
      }))
  } catch (error) {
    await close()
    throw error
  }
  url.port = String(port)
  return { url: url.href, close }
}
