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
    sequence: { concurrent: true },
    projects
  }
})
