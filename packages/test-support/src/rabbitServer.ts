/**
 * A RabbitMQ server for tests, benchmarks and developers, looked for in this
 * order: RABBITMQ_URL; the server that is installed here (Debian's package),
 * started as a throw-away node; docker. The tests run on RabbitMQ 4 as well:
 * on that of Debian 13, which `.ci/servers` installs into a directory of its own
 * and which runs in there by chroot; else in docker. It imports nothing but
 * Node, so that `scripts/rabbitmq.ts` can use it.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { existsSync, globSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { connect } from "node:net"
import { homedir, tmpdir } from "node:os"
import { join } from "node:path"
import { freePort, freePorts, pause, run, until } from "./process.ts"

/** Of a throw-away node: small, so that a test can exceed it. */
export const maxMessageSize = 1 << 20

/** PEM texts for a listener with TLS, which asks clients for a certificate of the same authority. */
export interface Tls {
  readonly ca: string
  readonly certificate: string
  readonly key: string
}

export interface RabbitServer {
  readonly url: string
  /** The port of the listener with TLS, where one was asked for. */
  readonly tlsPort?: number
  /** What it is, for logs. */
  readonly description: string
  /** Ways to hurt it; undefined for a server that is not ours. */
  readonly control: Control | undefined
  /** Ends what was started and removes its data. */
  readonly dispose: () => Promise<void>
}

export interface Control {
  /** Runs rabbitmqctl and gives its output. */
  readonly ctl: (...args: ReadonlyArray<string>) => Promise<string>
  /** An orderly shutdown; the data stays. */
  readonly stop: () => Promise<void>
  /** SIGKILL; the data stays. */
  readonly kill: () => Promise<void>
  /** Starts it again on the same ports with the same data. */
  readonly start: () => Promise<void>
}

export type Found =
  | { readonly _tag: "Url"; readonly url: string }
  /** The directory of its programs, below the root directory that it runs in. */
  | { readonly _tag: "Installed"; readonly bin: string; readonly root: string | undefined }
  | { readonly _tag: "Docker"; readonly image: string }
  | { readonly _tag: "None"; readonly reason: string }

const docker = "rabbitmq:4"

/** `"any"`: the one that is there. `"4"`: RabbitMQ 4. */
export type Version = "any" | "4"

/** The version that the tests of this process start servers of. */
export const version: Version = process.env["EVENT_FLOW_RABBITMQ"] === "4" ? "4" : "any"

/** Where `.ci/servers` installs RabbitMQ 4, with all that it runs on. */
const root4 = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "event-flow", "rabbitmq-trixie")

/** Which server there is. Starts nothing. */
export const find = (which: Version = version): Promise<Found> => which === "4" ? find4() : findAny()

const find4 = async (): Promise<Found> => {
  const bin = "/usr/lib/rabbitmq/bin"
  if (process.getuid?.() === 0 && existsSync(join(root4, bin, "rabbitmq-server"))) {
    return { _tag: "Installed", bin, root: root4 }
  }
  if (await hasDocker()) return { _tag: "Docker", image: docker }
  return { _tag: "None", reason: "no RabbitMQ 4: run .ci/servers and the tests as root, or start docker" }
}

const hasDocker = () => run("docker", ["info"]).then(() => true, () => false)

const findAny = async (): Promise<Found> => {
  const url = process.env["RABBITMQ_URL"]
  if (url !== undefined && url !== "") return { _tag: "Url", url }
  const bins = [
    "/usr/lib/rabbitmq/bin",
    ...globSync("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin"),
    ...globSync("/opt/homebrew/opt/rabbitmq/sbin")
  ]
  const bin = bins.find((bin) => existsSync(join(bin, "rabbitmq-server")) && existsSync(join(bin, "rabbitmqctl")))
  if (bin !== undefined) return { _tag: "Installed", bin, root: undefined }
  if (await hasDocker()) return { _tag: "Docker", image: docker }
  return {
    _tag: "None",
    reason: "no RabbitMQ: set RABBITMQ_URL, install rabbitmq-server, or start docker"
  }
}

/** Starts what was found, and waits until it takes connections. Only an installed server can have TLS. */
export const start = async (
  found: Exclude<Found, { readonly _tag: "None" }>,
  options: { readonly tls?: Tls } = {}
): Promise<RabbitServer> => {
  switch (found._tag) {
    case "Url":
      return { url: found.url, description: "RABBITMQ_URL", control: undefined, dispose: async () => {} }
    case "Installed":
      return startNode(found, options.tls)
    case "Docker":
      return startContainer(found.image)
  }
}

// --- internal ---

/** Whether the server answers an AMQP greeting: a listening socket alone is not enough. */
const greets = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write("AMQP\0\0\t\x01"))
    const end = (ok: boolean) => {
      socket.destroy()
      resolve(ok)
    }
    socket.setTimeout(2000, () => end(false))
    socket.once("data", () => end(true))
    socket.once("error", () => end(false))
    socket.once("end", () => end(false))
  })

const startNode = async (
  { bin, root }: Extract<Found, { readonly _tag: "Installed" }>,
  tls: Tls | undefined
): Promise<RabbitServer> => {
  // The paths of the server are those below its root
  const outside = (path: string) => root === undefined ? path : join(root, path)
  const command = (program: string, args: ReadonlyArray<string>): [string, ReadonlyArray<string>] =>
    root === undefined ? [program, args] : ["chroot", [root, program, ...args]]
  const data = mkdtempSync(join(outside(root === undefined ? tmpdir() : "/tmp"), "event-flow-rabbitmq-"))
  const dir = root === undefined ? data : data.slice(root.length)
  const [port, distPort, epmdPort, tlsPort] = await freePorts(4) as [number, number, number, number]
  const cookie = Array.from(crypto.getRandomValues(new Uint8Array(10)), (byte) => String.fromCharCode(97 + byte % 26))
    .join("")
  writeFileSync(join(data, "plugins"), "[].\n")
  writeFileSync(join(data, "env"), "")
  for (const [name, text] of Object.entries(tls ?? {})) writeFileSync(join(data, `${name}.pem`), text)
  writeFileSync(
    join(data, "rabbitmq.conf"),
    // The alarm of a disk that is nearly full is raised by tests, not by the machine they run on
    [
      "disk_free_limit.absolute = 1MB",
      "log.console = false",
      `max_message_size = ${maxMessageSize}`,
      // Below a root of its own there is no /proc that tells them
      "total_memory_available_override_value = 4GB",
      "vm_memory_calculation_strategy = allocated",
      ...(tls === undefined ? [] : [
        `listeners.ssl.1 = 127.0.0.1:${tlsPort}`,
        `ssl_options.cacertfile = ${join(dir, "ca.pem")}`,
        `ssl_options.certfile = ${join(dir, "certificate.pem")}`,
        `ssl_options.keyfile = ${join(dir, "key.pem")}`,
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = true"
      ])
    ].join("\n") + "\n"
  )
  const env: Record<string, string> = {
    HOME: dir,
    RABBITMQ_NODENAME: `t${port}@localhost`,
    RABBITMQ_NODE_IP_ADDRESS: "127.0.0.1",
    RABBITMQ_NODE_PORT: String(port),
    RABBITMQ_DIST_PORT: String(distPort),
    ERL_EPMD_PORT: String(epmdPort),
    ERL_EPMD_ADDRESS: "127.0.0.1",
    // Lets the port mapper be ended right after its node was killed
    ERL_EPMD_RELAXED_COMMAND_CHECK: "1",
    RABBITMQ_MNESIA_BASE: join(dir, "data"),
    RABBITMQ_LOG_BASE: join(dir, "log"),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(dir, "plugins"),
    RABBITMQ_CONFIG_FILE: join(dir, "rabbitmq"),
    RABBITMQ_CONF_ENV_FILE: join(dir, "env"),
    RABBITMQ_GENERATED_CONFIG_DIR: join(dir, "config"),
    RABBITMQ_SCHEMA_DIR: join(dir, "schema"),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: `-setcookie ${cookie}`,
    RABBITMQ_CTL_ERL_ARGS: `-setcookie ${cookie}`
  }
  let child: ChildProcess | undefined
  let output = ""

  /** A shell whose child is the Erlang VM: both are signalled as a group of their own. */
  const signal = (name: "SIGTERM" | "SIGKILL") => {
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    try {
      process.kill(-child.pid, name)
    } catch {
      // gone meanwhile
    }
  }
  const ended = (): Promise<void> =>
    new Promise((resolve) => {
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) resolve()
      else child.once("exit", () => resolve())
    })
  const ctl = (...args: ReadonlyArray<string>) =>
    run(...command(join(bin, "rabbitmqctl"), ["-q", ...args]), { env: { ...process.env, ...env } })
  const launch = async () => {
    output = ""
    child = spawn(...command(join(bin, "rabbitmq-server"), []), {
      env: { ...process.env, ...env },
      detached: true,
      stdio: ["ignore", "pipe", "pipe"]
    })
    const keep = (chunk: Buffer) => output = (output + chunk.toString()).slice(-20_000)
    child.stdout!.on("data", keep)
    child.stderr!.on("data", keep)
    await until("rabbitmq-server", () => {
      if (child!.exitCode !== null) throw new Error(`rabbitmq-server ended with ${child!.exitCode}\n${output}`)
      return greets(port)
    })
  }
  const stop = async () => {
    const gone = ended()
    await ctl("shutdown").catch(() => signal("SIGTERM"))
    await Promise.race([gone, pause(30_000)])
    signal("SIGKILL")
    await gone
  }
  const kill = async () => {
    signal("SIGKILL")
    await ended()
    await until("end of the killed rabbitmq-server", async () => !(await greets(port)))
  }
  const endWithParent = () => {
    signal("SIGKILL")
    spawnSync(...command("epmd", ["-port", String(epmdPort), "-kill"]), { env: { ...process.env, ...env } })
  }
  process.once("exit", endWithParent)
  const dispose = async () => {
    process.off("exit", endWithParent)
    signal("SIGKILL")
    await ended()
    // The port mapper is a daemon that outlives its nodes
    await run(...command("epmd", ["-port", String(epmdPort), "-kill"]), { env: { ...process.env, ...env } }).catch(
      () => {}
    )
    rmSync(data, { recursive: true, force: true, maxRetries: 10 })
  }
  try {
    await launch()
  } catch (error) {
    await dispose()
    throw error
  }
  return {
    url: `amqp://guest:guest@127.0.0.1:${port}`,
    ...(tls === undefined ? undefined : { tlsPort }),
    description: `a throw-away node of ${outside(bin)}`,
    control: { ctl, stop, kill, start: launch },
    dispose
  }
}

const startContainer = async (image: string): Promise<RabbitServer> => {
  const port = await freePort()
  const settings = `[{rabbit, [{max_message_size, ${maxMessageSize}}, {loopback_users, []}]}].`
  const id = (await run("docker", [
    "run",
    "--detach",
    "--publish",
    `127.0.0.1:${port}:5672`,
    "--entrypoint",
    "sh",
    image,
    "-c",
    `echo '${settings}' > /etc/rabbitmq/advanced.config && exec docker-entrypoint.sh rabbitmq-server`
  ])).trim()
  const ready = () => until("rabbitmq container", () => greets(port))
  const docker = async (...args: ReadonlyArray<string>) => {
    await run("docker", args)
  }
  try {
    await ready()
  } catch (error) {
    await docker("rm", "--force", "--volumes", id)
    throw error
  }
  return {
    url: `amqp://guest:guest@127.0.0.1:${port}`,
    description: `a container of ${image}`,
    control: {
      ctl: (...args) => run("docker", ["exec", id, "rabbitmqctl", "-q", ...args]),
      stop: () => docker("stop", id),
      kill: () => docker("kill", id),
      start: async () => {
        await docker("start", id)
        await ready()
      }
    },
    dispose: () => docker("rm", "--force", "--volumes", id)
  }
}
