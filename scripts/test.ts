/**
 * `npm test`: types, lint, formatting and all tests, whatever fails. `npm run test:quick` leaves out the tests that need
 * a server or npm's registry. At the end come the tests that were skipped, with the reasons, and as the last line the
 * count, `N passed, N failed`, where each stage before the tests counts as one.
 *
 * More arguments go to vitest, for example `npm test -- --project core`.
 */
import { spawnSync } from "node:child_process"
import { mkdirSync, readFileSync, rmSync } from "node:fs"

interface Assertion {
  readonly ancestorTitles: ReadonlyArray<string>
  readonly title: string
  readonly status: "passed" | "failed" | "skipped" | "pending" | "todo" | "disabled"
}

interface Report {
  readonly testResults: ReadonlyArray<{
    readonly name: string
    readonly status: "passed" | "failed"
    readonly assertionResults: ReadonlyArray<Assertion>
  }>
}

const reportFile = ".cache/vitest.json"
const total = { passed: 0, failed: 0 }

const run = (
  stage: string,
  command: string,
  args: ReadonlyArray<string>,
  env: Record<string, string> = {}
): boolean => {
  console.log(`\n--- ${stage}: ${command} ${args.join(" ")}`)
  const start = performance.now()
  const ok = spawnSync(command, args, { stdio: "inherit", env: { ...process.env, ...env } }).status === 0
  console.log(`--- ${stage}: ${ok ? "ok" : "FAILED"} in ${((performance.now() - start) / 1000).toFixed(1)} s`)
  return ok
}

const readReport = (): Report => {
  try {
    return JSON.parse(readFileSync(reportFile, "utf8"))
  } catch {
    return { testResults: [] }
  }
}

/** The reason in the title of a test that was skipped, or of a group around it. */
const reasonOf = ({ ancestorTitles, title }: Assertion): string =>
  [...ancestorTitles, title].map((title) => /\(skipped: (.*)\)$/.exec(title)?.[1]).find((reason) =>
    reason !== undefined
  )
    ?? "not chosen, or without a reason"

const options = process.argv.slice(2)
const isQuick = options[0] === "--quick"
const quickly = ["--exclude=test/pack.test.ts"]

for (
  const [stage, command, ...args] of [
    ["typecheck", "tsc", "-b"],
    ["lint", "oxlint", "--deny-warnings"],
    ["format", "dprint", "check"]
  ] as const
) {
  if (run(stage, command, args)) total.passed++
  else total.failed++
}

mkdirSync(".cache", { recursive: true })
rmSync(reportFile, { force: true })
const ok = run("tests", "vitest", [
  "run",
  "--reporter=default",
  "--reporter=json",
  `--outputFile.json=${reportFile}`,
  ...isQuick ? [...quickly, ...options.slice(1)] : options
], isQuick ? { EVENT_FLOW_QUICK: "1" } : {})

const skipped = new Map<string, number>()
let failedTests = 0
for (const file of readReport().testResults) {
  const failed = file.assertionResults.filter((test) => test.status === "failed").length
  // A file that cannot be loaded has no tests to count.
  failedTests += file.status === "failed" && failed === 0 ? 1 : failed
  for (const test of file.assertionResults) {
    if (test.status === "passed") total.passed++
    else if (test.status !== "failed") skipped.set(reasonOf(test), (skipped.get(reasonOf(test)) ?? 0) + 1)
  }
}
// Unhandled errors outside a test, or a vitest that did not start.
total.failed += ok ? failedTests : Math.max(1, failedTests)

if (isQuick) console.log("\nnpm run test:quick leaves out test/pack.test.ts, which installs packages: npm test runs it")
if (skipped.size > 0) {
  console.log("\nSkipped tests, and why:")
  for (const [reason, count] of skipped) console.log(`${String(count).padStart(6)}  ${reason}`)
}
console.log(`\n${total.passed} passed, ${total.failed} failed`)
process.exitCode = total.failed > 0 ? 1 : 0
