/**
 * python-cqrs, in a Python process that speaks JSON lines: the harness asks for a sample when it is this subject's
 * turn, and the process waits, asleep, in between. Where Python or the package cannot be had the subject is left out.
 */
import { execFileSync, spawn } from "node:child_process"
import { existsSync, mkdirSync, rmSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import type { Run, Subject } from "../subject.ts"
import { Unavailable } from "../subject.ts"
import type { Tally, Workload } from "../workload.ts"
import { depth, fanOut, meetingId, tally, userId } from "../workload.ts"

const requirement = "python-cqrs==4.10.*"
const script = join(import.meta.dirname, "../../python/bench.py")
const onWindows = process.platform === "win32"

const firstLine = (error: unknown): string => {
  const { message, stderr } = error as { readonly message: string; readonly stderr?: string }
  const lines = (stderr ?? "").split("\n").filter((line) => line.trim() !== "")
  return lines.at(-1) ?? message.split("\n")[0] ?? "unknown reason"
}

const execute = (file: string, args: ReadonlyArray<string>, timeout: number): string =>
  execFileSync(file, args, { encoding: "utf8", timeout, stdio: ["ignore", "pipe", "pipe"] })

const hasPackage = (python: string): boolean => {
  try {
    execute(
      python,
      ["-c", "import cqrs, importlib.metadata as m; assert m.version('python-cqrs')[:5] == '4.10.'"],
      60_000
    )
    return true
  } catch {
    return false
  }
}

/** An interpreter with the package: the one named in the environment, the system's, or a venv kept in the cache. */
const findPython = (): string => {
  const given = process.env["EVENT_FLOW_BENCH_PYTHON"]
  if (given !== undefined) {
    if (hasPackage(given)) {
      return given
    }
    throw new Unavailable(`EVENT_FLOW_BENCH_PYTHON (${given}) has no ${requirement}`)
  }
  const candidates = onWindows ? ["python", "py"] : ["python3", "python"]
  const system = candidates.find((candidate) => {
    try {
      execute(candidate, ["--version"], 30_000)
      return true
    } catch {
      return false
    }
  })
  if (system === undefined) {
    throw new Unavailable("there is no Python here")
  }
  if (hasPackage(system)) {
    return system
  }
  const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache")
  const venv = join(cache, "event-flow-benchmarks", "python-cqrs-4.10")
  const python = onWindows ? join(venv, "Scripts", "python.exe") : join(venv, "bin", "python")
  if (existsSync(python) && hasPackage(python)) {
    return python
  }
  process.stderr.write(`installing ${requirement} into ${venv}\n`)
  try {
    // What a run that was cut short has left there is of no use.
    rmSync(venv, { recursive: true, force: true })
    mkdirSync(venv, { recursive: true })
    execute(system, ["-m", "venv", venv], 120_000)
    execute(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement], 300_000)
  } catch (error) {
    throw new Unavailable(`${requirement} could not be installed: ${firstLine(error)}`)
  }
  return python
}

interface Started {
  readonly ready: true
  readonly python: string
  readonly packages: ReadonlyArray<string>
}

interface Sampled {
  readonly ns: number
  readonly tally: Tally
}

const start = async () => {
  const child = spawn(findPython(), [script], { stdio: ["pipe", "pipe", "pipe"] })
  let errors = ""
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors = (errors + text).slice(-2000)
  })
  const ended = new Promise<never>((_, reject) => {
    child.on("error", (error) => reject(new Unavailable(error.message)))
    child.on("close", (code) => {
      reject(new Unavailable(`bench.py ended with ${code}: ${errors.trim().split("\n").at(-1)}`))
    })
  })
  // Rejected on every ordinary end too, when nobody is waiting for it any more.
  ended.catch(() => {})
  child.stdin.on("error", () => {})
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const ask = async (question: unknown): Promise<unknown> => {
    child.stdin.write(`${JSON.stringify(question)}\n`)
    const line = await Promise.race([lines.next(), ended])
    return line.done === true ? await ended : JSON.parse(line.value)
  }
  const started = await ask({ meetingId, userId, fanOut, depth }) as Started
  return { child, ask, started }
}

const { child, ask, started } = await start()

const setup = (workload: Workload): Run => async (units) => {
  const sampled = await ask({ workload, units }) as Sampled
  Object.assign(tally, sampled.tally)
  return sampled.ns
}

const subject: Subject = {
  name: "python-cqrs",
  packages: [...started.packages, `python@${started.python}`],
  setup,
  close: async () => {
    child.stdin.end()
  }
}

export default subject
