/**
 * `npm run bench:types -w benchmarks`: what the types cost the compiler. A generated program is checked as one that
 * uses the packages as they are published, and so is the same program without event-flow.
 */
import { spawnSync } from "node:child_process"
import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { cpus } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { versionOf } from "../versions.ts"
import { eventFlow, imports, plain, type Program, type Size } from "./programs.ts"

const { values } = parseArgs({
  options: {
    commands: { type: "string", default: "200" },
    events: { type: "string", default: "300" },
    reps: { type: "string", default: "5" },
    /** Where to write; a run of another size writes only if this is given. */
    out: { type: "string" }
  }
})
const size: Size = { commands: Number(values.commands), events: Number(values.events) }
const isStandard = size.commands === 200 && size.events === 300

const root = join(import.meta.dirname, "../../..")
const folder = join(root, "benchmarks/.cache/types")

const print = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

const compiler = [process.execPath, join(root, "node_modules/typescript/bin/tsc")]

const run = (command: ReadonlyArray<string>): string => {
  const [file, ...args] = command
  const { status, stderr, stdout } = spawnSync(file!, args, { cwd: root, encoding: "utf8", maxBuffer: 2 ** 26 })
  if (status !== 0) throw new Error(`${command.join(" ")}\n${stdout.slice(0, 4000)}${stderr}`)
  return stdout
}

interface Reading {
  readonly checkSeconds: number
  /** Of the whole run, in user mode; undefined where there is no shell that tells it. */
  readonly cpuSeconds: number | undefined
  readonly megabytes: number
  readonly instantiations: number
  readonly types: number
}

const write = (name: string, program: Program): void => {
  mkdirSync(join(folder, name), { recursive: true })
  for (const [file, text] of Object.entries(program)) writeFileSync(join(folder, name, file), text)
  const compilerOptions = {
    target: "ES2023",
    lib: ["ES2023", "ESNext.Disposable", "DOM"],
    module: "NodeNext",
    moduleDetection: "force",
    verbatimModuleSyntax: true,
    allowImportingTsExtensions: true,
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: true,
    noEmit: true,
    types: []
  }
  writeFileSync(
    join(folder, name, "tsconfig.json"),
    JSON.stringify({ compilerOptions, files: Object.keys(program) }, null, 2)
  )
}

const check = (name: string): Reading => {
  const command = [...compiler, "-p", join(folder, name), "--singleThreaded", "--extendedDiagnostics"]
  // The shell's "times" tells the time of its children, on the last line: "0m1.720s 0m0.210s"
  const output = process.platform === "win32" ? run(command) : run(["sh", "-c", "\"$@\" && times", "sh", ...command])
  const figure = (label: string): number => {
    const found = new RegExp(`^${label}:\\s+([\\d.]+)`, "m").exec(output)
    if (found === null) throw new Error(`tsc says no "${label}":\n${output}`)
    return Number(found[1])
  }
  const times = /(\d+)m([\d.]+)s \S+\s*$/.exec(output)
  return {
    checkSeconds: figure("Check time"),
    cpuSeconds: times === null ? undefined : Number(times[1]) * 60 + Number(times[2]),
    megabytes: Math.round(figure("Memory used") / 1024),
    instantiations: figure("Instantiations"),
    types: figure("Types")
  }
}

run([...compiler, "-b", "packages/core"])
rmSync(folder, { recursive: true, force: true })
const programs = { "event-flow": eventFlow(size), plain: plain(size), imports }
type Name = keyof typeof programs
const names = Object.keys(programs) as ReadonlyArray<Name>
for (const name of names) {
  write(name, programs[name])
  // Once before the rounds: files are in memory then, and a program that does not compile is no measure
  check(name)
}

const readings: Record<Name, Array<Reading>> = { "event-flow": [], plain: [], imports: [] }
for (let round = 0; round < Number(values.reps); round++) {
  for (const name of round % 2 === 0 ? names : names.toReversed()) readings[name].push(check(name))
  print(`round ${round + 1} of ${values.reps}`)
}

/** The least of each figure: what else the machine does only adds to it. */
const least = (name: Name) => {
  const of = (figure: keyof Reading) => Math.min(...readings[name].flatMap((reading) => reading[figure] ?? []))
  return {
    program: name,
    checkSeconds: of("checkSeconds"),
    cpuSeconds: of("cpuSeconds"),
    megabytes: of("megabytes"),
    instantiations: of("instantiations"),
    types: of("types")
  }
}
const results = { ours: least("event-flow"), theirs: least("plain"), floor: least("imports") }

/** Of what is beyond the imports. */
const ratio = (figure: keyof Reading): number =>
  Math.round((results.ours[figure] - results.floor[figure]) / (results.theirs[figure] - results.floor[figure]) * 100) /
  100
const ratios = {
  checkSeconds: ratio("checkSeconds"),
  cpuSeconds: ratio("cpuSeconds"),
  megabytes: ratio("megabytes"),
  instantiations: ratio("instantiations"),
  types: ratio("types")
}

print(`\n${size.commands} commands, each sent once; ${size.events} events, each with a handler`)
console.table(Object.fromEntries(Object.values(results).map(({ program, ...figures }) => [program, figures])))
print(`event-flow to plain, both without the imports: ${JSON.stringify(ratios)}`)

const out = values.out ?? (isStandard ? join(root, "benchmarks/results/types.json") : undefined)
if (out !== undefined) {
  const report = {
    date: new Date().toISOString(),
    cpu: `${cpus().length} x ${cpus()[0]!.model.trim()}`,
    node: process.version,
    versions: [versionOf("@event-flow/core"), versionOf("effect"), versionOf("typescript")],
    size,
    rounds: Number(values.reps),
    results: Object.values(results),
    ratios
  }
  writeFileSync(out, `${JSON.stringify(report, null, 2)}\n`)
  print(`written: ${out}`)
}
