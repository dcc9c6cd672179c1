import { defineConfig } from "vitest/config"
import projects from "./vitest.workspace.ts"

const conditions = ["@event-flow/source"]

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    include: ["test/**/*.test.ts"],
    passWithNoTests: true,
    sequence: { concurrent: true },
    projects
  }
})
