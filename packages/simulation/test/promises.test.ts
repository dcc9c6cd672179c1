/** The simulator keeps its own promises, and whoever breaks one is found out. */
import { assert, describe, it } from "@effect/vitest"
import { promises } from "./promises.ts"
import { type Mutant, runWith } from "./support/mutants.ts"

describe("the simulator promises that", () => {
  for (const [name, keep] of Object.entries(promises)) it(name, keep)
})

const mutants: ReadonlyArray<Mutant> = [
  {
    name: "a commit is done although the process dies before it",
    file: "kernel/world.ts",
    text: "fire(\"the process dies before it\")",
    change: "fire(\"the process dies before it\"); happen(() => {})"
  },
  {
    name: "an operation is not done before the process dies after it",
    file: "kernel/world.ts",
    text: "if (isCancelled) return\n",
    change: "if (isCancelled) return\n      if (fault?.do === \"crashAfter\") return answer(Exit.void as never)\n"
  },
  {
    name: "an operation that fails before is done",
    file: "kernel/world.ts",
    text: "fire(\"it fails\")",
    change: "fire(\"it fails\"); happen(() => {})"
  },
  {
    name: "an acknowledgement that is lost is kept",
    file: "broker/broker.ts",
    text: "lane.rewind(count)",
    change: "void count"
  },
  {
    name: "a process that dies keeps its messages",
    file: "broker/broker.ts",
    text: "const forget = process.whenDead(close)",
    change: "const forget = () => {}"
  },
  {
    name: "a process that dies keeps its locks",
    file: "store/engine.ts",
    text: "const forget = process.whenDead(rollBack)",
    change: "const forget = () => {}"
  },
  {
    name: "a dead process runs on",
    file: "kernel/scheduler.ts",
    text: "if (this.process.epoch !== this.#epoch) return true",
    change: ""
  },
  {
    name: "a row is lost in a commit of several",
    file: "store/engine.ts",
    text: "for (const [row, value] of transaction.writes) {",
    change: "for (const [row, value] of [...transaction.writes].slice(0, 1)) {"
  },
  {
    name: "a transaction that fails is committed",
    file: "store/engine.ts",
    text: "Exit.isSuccess(exit) ? Effect.as(this.#commit(transaction), exit.value) : exit",
    change: "Effect.andThen(this.#commit(transaction), exit)"
  },
  {
    name: "rows are not locked",
    file: "store/locks.ts",
    text: "if (owner === undefined || owner === transaction) {",
    change: "if (owner !== null) {"
  },
  {
    name: "what comes again comes behind what waits",
    file: "broker/group.ts",
    text: "    this.queue.sort((a, b) => a.offset - b.offset)\n",
    change: ""
  },
  {
    name: "a lane is given to two members",
    file: "broker/group.ts",
    text: "if (owner === undefined || (owner === member && lane.held.length < prefetch)) lanes.push(lane)",
    change: "lanes.push(lane)"
  },
  {
    name: "an outage leaves messages with their consumers, and gives them to others as well",
    file: "broker/broker.ts",
    text: "for (const member of this.#members()) this.#revoke(member, 0)",
    change: ""
  },
  {
    name: "nothing ever goes wrong",
    file: "kernel/world.ts",
    text: "fault = this.#plan.faultOf(operation, kind)",
    change: ""
  }
]

describe("found out:", () => {
  for (const mutant of mutants) {
    it(mutant.name, async () => {
      const { code, output } = await runWith("promises.ts", mutant)
      assert.strictEqual(code, 1, output)
      // It is a promise that is broken, and not the program
      assert.notMatch(output, /SyntaxError|has no "|ERR_MODULE/)
    })
  }

  it("nothing, where nothing was changed", async () => {
    assert.deepStrictEqual(await runWith("promises.ts", undefined), { code: 0, output: "\n" })
  })
})
