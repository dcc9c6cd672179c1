/**
 * `npm test`: typecheck, lint, format and all tests, whatever fails. The last line of the output is
 * the count, `N passed, N failed`, where each stage before the tests counts as one.
 *
 * Arguments go to vitest, for example `npm test -- --project core`.
 */
import { spawnSync } from "node:child_process"
import { mkdirSync, readFileSync, rmSync } from "node:fs"

interface Assertion {
  readonly status: "passed" | "failed" | "skipped" | "pending" | "todo" | "disabled"
}

interface Report {
  readonly testResults: ReadonlyArray<{
    readonly status: "passed" | "failed"
    readonly assertionResults: ReadonlyArray<Assertion>
  }>
}

const reportFile = ".cache/vitest.json"
const total = { passed: 0, failed: 0, skipped: 0 }

const run = (stage: string, command: string, args: ReadonlyArray<string>): boolean => {
  console.log(`\n--- ${stage}: ${command} ${args.join(" ")}`)
  const start = performance.now()
  const ok = spawnSync(command, args, { stdio: "inherit" }).status === 0
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
  ...process.argv.slice(2)
])
let failedTests = 0
for (const file of readReport().testResults) {
  const failed = file.assertionResults.filter((test) => test.status === "failed").length
  const passed = file.assertionResults.filter((test) => test.status === "passed").length
  total.passed += passed
  total.skipped += file.assertionResults.length - passed - failed
  // A file that cannot be loaded has no tests to count.
  failedTests += file.status === "failed" && failed === 0 ? 1 : failed
}
// Unhandled errors outside a test, or a vitest that did not start.
total.failed += ok ? failedTests : Math.max(1, failedTests)

const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : ""
console.log(`\n${total.passed} passed, ${total.failed} failed${skipped}`)
process.exitCode = total.failed > 0 ? 1 : 0
