import type { TestProjectConfiguration, TestProjectInlineConfiguration } from "vitest/config"

const core = (name: string, options: TestProjectInlineConfiguration["test"]): TestProjectInlineConfiguration => ({
  extends: true,
  root: "packages/core",
  test: {
    name,
    setupFiles: ["test/fixtures/opBudget.ts"],
    sequence: { groupOrder: 1 },
    ...options
  }
})

const rabbitmq = (
  name: string,
  setup: string,
  options: TestProjectInlineConfiguration["test"]
): TestProjectInlineConfiguration => ({
  extends: true,
  root: "packages/rabbitmq-layer",
  test: {
    name,
    globalSetup: [`../test-support/src/globalSetup/${setup}`],
    testTimeout: 300_000,
    hookTimeout: 180_000,
    sequence: { concurrent: false, groupOrder: 1 },
    ...options
  }
})

/** The list of test projects. `vitest.config.ts` imports it; a new package with tests is added here. */
const projects: Array<TestProjectConfiguration> = [
  core("core", {}),
  // Once more, what runs fibers, with a run loop that yields after every few operations
  core("core-yielding", {
    env: { EVENT_FLOW_MAX_OPS: "23" },
    exclude: [
      "test/{asyncApi,chains,decode,definition,eventHandlerError,failureSchema,message,schemaClass,settings}.test.ts",
      "test/flowGraph/**",
      "test/testing/flow.test.ts"
    ]
  }),
  {
    extends: true,
    root: "packages/examples",
    test: { name: "examples", exclude: ["test/brokers/**"], sequence: { groupOrder: 1 } }
  },
  {
    extends: true,
    root: "packages/simulation",
    // A run does not let go of its thread: a test that looks for planted bugs takes its time on a busy machine
    test: { name: "simulation", testTimeout: 300_000, sequence: { groupOrder: 1 } }
  },
  // Against a real broker, in files that start brokers of their own: after the others, whose timing they would disturb
  {
    extends: true,
    root: "packages/kafka-layer",
    test: {
      name: "kafka-layer",
      globalSetup: ["../test-support/src/globalSetup/kafka.ts"],
      testTimeout: 300_000,
      hookTimeout: 180_000,
      sequence: { concurrent: false, groupOrder: 3 }
    }
  },
  rabbitmq("rabbitmq-layer", "rabbitmq.ts", {}),
  // Once more on RabbitMQ 4: what a server answers
  rabbitmq("rabbitmq-layer-4", "rabbitmq4.ts", {
    env: { EVENT_FLOW_RABBITMQ: "4" },
    exclude: ["test/{config,publisher,tagWindow}.test.ts"]
  }),
  {
    extends: true,
    root: "packages/sql-layer",
    test: {
      name: "sql-layer",
      globalSetup: ["../test-support/src/globalSetup/postgres.ts"],
      testTimeout: 300_000,
      hookTimeout: 180_000,
      sequence: { concurrent: false, groupOrder: 1 }
    }
  },
  // Example programs on real servers
  {
    extends: true,
    root: "packages/examples/test/brokers",
    test: {
      name: "examples-brokers",
      // Beside the one of the configuration, which finds nothing below this root
      include: ["*.test.ts"],
      globalSetup: ["kafka", "rabbitmq", "postgres"].map((name) => `../../../test-support/src/globalSetup/${name}.ts`),
      testTimeout: 300_000,
      hookTimeout: 180_000,
      fileParallelism: false,
      sequence: { concurrent: false, groupOrder: 4 }
    }
  },
  // Tests of the repository itself: packing, documentation, architecture. They start compilers and
  // package managers, so they run after the others and not beside them.
  {
    extends: true,
    root: ".",
    test: { name: "repository", testTimeout: 180_000, hookTimeout: 180_000, sequence: { groupOrder: 2 } }
  }
]

export default projects
