import { availableParallelism } from "node:os"
import { defineConfig } from "vitest/config"
import projects from "./vitest.workspace.ts"

const conditions = ["@event-flow/source"]

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    include: ["test/**/*.test.ts"],
    passWithNoTests: true,
    // A worker keeps its modules from file to file: to load them was most of the time that core's tests took
    isolate: false,
    // More than there are processors (vitest would take one fewer): most files wait for servers
    maxWorkers: availableParallelism() + 2,
    sequence: { concurrent: true },
    // A busy machine does not start a process in the usual five seconds
    testTimeout: 60_000,
    projects
  }
})
