/** What `Migrations` makes, once, whoever runs it and however often. */
import { assert, it } from "@effect/vitest"
import { Broker, Message } from "@event-flow/core"
import { Inbox, Migrations, Outbox, OutboxAdmin, Tables } from "@event-flow/sql-layer"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { recorder } from "./support/orders.ts"
import { clientLayer, freshDatabase, freshDatabaseLayer, withServer } from "./support/support.ts"

/** All that makes the tables what they are, without their ids. */
const catalog = (schemas: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const classes = yield* sql`
      SELECT n.nspname, c.relname, c.relkind, c.reloptions, pg_get_indexdef(c.oid) AS index
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = ANY(${schemas}::text[]) AND c.relname <> 'event_flow_migrations'
        AND c.relname <> 'event_flow_migrations_pkey'
      ORDER BY 1, 2
    `
    const columns = yield* sql`
      SELECT table_schema, table_name, ordinal_position, column_name, data_type, is_nullable, column_default, identity_generation
      FROM information_schema.columns
      WHERE table_schema = ANY(${schemas}::text[]) AND table_name <> 'event_flow_migrations' ORDER BY 1, 2, 3
    `
    const constraints = yield* sql`
      SELECT conrelid::regclass::text AS table, conname, pg_get_constraintdef(oid) AS definition FROM pg_constraint
      WHERE connamespace IN (SELECT oid FROM pg_namespace WHERE nspname = ANY(${schemas}::text[]))
        AND conrelid <> coalesce(to_regclass('event_flow_migrations')::oid, 0)
      ORDER BY 1, 2
    `
    return { classes, columns, constraints }
  })

withServer("the migrations", () => {
  it.live("make the tables in an empty database, and say what they did", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* Migrations.run, [[1, "event_flow"], [2, "waiting_rows"]])
      const { columns } = yield* catalog(["public"])
      assert.deepStrictEqual(
        columns.map((column) => `${String(column["table_name"])}.${String(column["column_name"])}`),
        [
          ...["consumer", "message_id", "handled_at"].map((name) => `event_flow_inbox.${name}`),
          ...[
            "id",
            "slot",
            "topic",
            "key",
            "key_bytes",
            "attributes",
            "headers",
            "body",
            "state",
            "attempts",
            "created_at",
            "next_attempt_at",
            "published_at",
            "last_error"
          ].map((name) => `event_flow_outbox.${name}`)
        ]
      )
      const sql = yield* SqlClient.SqlClient
      assert.deepStrictEqual(
        yield* sql`SELECT migration_id, name FROM event_flow_migrations`,
        [{ migration_id: 1, name: "event_flow" }, { migration_id: 2, name: "waiting_rows" }]
      )
    }).pipe(Effect.provide(freshDatabaseLayer())))

  it.live("do nothing the second time, and leave the rows that are there", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* Migrations.run
      yield* sql`INSERT INTO event_flow_inbox VALUES ('c', '1')`
      const before = yield* catalog(["public"])
      assert.deepStrictEqual(yield* Migrations.run, [])
      assert.deepStrictEqual(yield* catalog(["public"]), before)
      assert.deepStrictEqual(yield* sql`SELECT consumer FROM event_flow_inbox`, [{ consumer: "c" }])
    }).pipe(Effect.provide(freshDatabaseLayer())))

  it.live("run once for many that start at the same time, none of whom fails", () =>
    Effect.gen(function*() {
      for (let round = 0; round < 5; round++) {
        const url = yield* freshDatabase()
        const ran = yield* Effect.forEach(
          Array.from({ length: 8 }),
          () => Effect.provide(Migrations.run, Layer.fresh(clientLayer(url, { maxConnections: 1 }))),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(ran.flat(), [[1, "event_flow"], [2, "waiting_rows"]])
      }
    }))

  it.live("take names of tables, with a schema, for all that works on them", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE SCHEMA "My app"`
      const names = { outbox: "My app.Out", inbox: "My app.in\"box", migrations: "My app.done" }
      yield* Effect.gen(function*() {
        assert.deepStrictEqual(yield* Migrations.run, [[1, "event_flow"], [2, "waiting_rows"]])
        assert.deepStrictEqual(yield* Migrations.run, [])
        const tables = yield* sql<{ name: string }>`SELECT tablename AS name FROM pg_tables WHERE schemaname = 'My app'`
        assert.deepStrictEqual(tables.map((table) => table.name).sort(), ["Out", "done", "in\"box"])
        assert.deepStrictEqual(yield* sql`SELECT FROM pg_tables WHERE schemaname = 'public'`, [])
        yield* sql.withTransaction(
          Broker.Broker.use((broker) => broker.publish([Message.make({ topic: "t", body: new Uint8Array() })]))
        ).pipe(Effect.provide(Outbox.layer()))
        assert.strictEqual((yield* OutboxAdmin.status).pending, 1)
        const outbox = recorder()
        assert.strictEqual(yield* outbox.drain, 1)
        assert.strictEqual(yield* Inbox.prune(0), 0)
      }).pipe(Effect.provide(Tables.layer(names)))
    }).pipe(Effect.provide(freshDatabaseLayer())))

  it.live("stand beside those of another outbox in the same database", () =>
    Effect.gen(function*() {
      yield* Migrations.run
      const other = { outbox: "other_outbox", inbox: "other_inbox", migrations: "other_migrations" }
      assert.deepStrictEqual(yield* Effect.provide(Migrations.run, Tables.layer(other)), [[1, "event_flow"], [
        2,
        "waiting_rows"
      ]])
    }).pipe(Effect.provide(freshDatabaseLayer())))

  for (const names of [undefined, { outbox: "app.outbox", inbox: "app.inbox" }]) {
    it.live(`are the same as statements that are run by hand: ${names === undefined ? "usual names" : "other names"}`, () =>
      Effect.gen(function*() {
        const schemas = ["public", "app"]
        const createSchema = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`CREATE SCHEMA app`)
        const migrated = yield* Effect.andThen(createSchema, Effect.andThen(Migrations.run, catalog(schemas))).pipe(
          Effect.provide([Layer.fresh(freshDatabaseLayer()), Tables.layer(names ?? {})])
        )
        const byHand = yield* Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          yield* createSchema
          for (const { statements } of Migrations.statements(names)) {
            for (const statement of statements) yield* sql.unsafe(statement)
          }
          return yield* catalog(schemas)
        }).pipe(Effect.provide(Layer.fresh(freshDatabaseLayer())))
        assert.isAbove(byHand.classes.length, 7)
        assert.deepStrictEqual(byHand, migrated)
      }))
  }

  it.live("fail with a typed error, and leave nothing behind: the schema is missing", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const error = yield* Migrations.run.pipe(Effect.provide(Tables.layer({ outbox: "nowhere.outbox" })), Effect.flip)
      assert.isTrue(error._tag === "MigrationError" && error.kind === "Failed")
      assert.deepStrictEqual(yield* sql`SELECT * FROM event_flow_migrations`, [])
      const first = yield* Migrations.run.pipe(
        Effect.provide(Tables.layer({ migrations: "nowhere.migrations" })),
        Effect.flip
      )
      assert.strictEqual(first._tag, "SqlError")
      assert.deepStrictEqual(yield* Migrations.run, [[1, "event_flow"], [2, "waiting_rows"]])
    }).pipe(Effect.provide(freshDatabaseLayer())))

  it.live("fail with a typed error: a table of that name is there already", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE event_flow_inbox (mine text)`
      const exit = yield* Effect.exit(Layer.build(Migrations.layer))
      assert.include(String(exit), "MigrationError")
      // All or nothing
      assert.deepStrictEqual(yield* sql`SELECT to_regclass('event_flow_outbox') AS outbox`, [{ outbox: null }])
    }).pipe(Effect.provide(freshDatabaseLayer())))
})
