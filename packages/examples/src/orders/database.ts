/**
 * The tables, in two schemas: `shop` belongs to the first flow, `totals` to the second. Neither reads
 * the other's. Those of outbox and inbox come from the SQL layer.
 */
import { PgClient } from "@effect/sql-pg"
import { Migrations } from "@event-flow/sql-layer"
import { Effect, Layer, Order, type Redacted } from "effect"
import { Migrator, SqlClient, SqlError } from "effect/sql"

const shop = [
  "CREATE SCHEMA shop",
  // Two shops on one broker have topics of their own
  "CREATE TABLE shop.identity (id uuid NOT NULL DEFAULT gen_random_uuid())",
  "INSERT INTO shop.identity DEFAULT VALUES",
  `CREATE TABLE shop.products (
  product text PRIMARY KEY,
  price integer NOT NULL,
  opening integer NOT NULL,
  in_stock integer NOT NULL CHECK (in_stock >= 0)
)`,
  `CREATE TABLE shop.customers (
  customer text PRIMARY KEY,
  opening integer NOT NULL,
  money integer NOT NULL CHECK (money >= 0),
  announced integer NOT NULL DEFAULT 0
)`,
  `CREATE TABLE shop.orders (
  order_id text PRIMARY KEY,
  customer text NOT NULL REFERENCES shop.customers,
  state text NOT NULL CHECK (state IN ('open', 'paid', 'cancelled')),
  reason text,
  total integer NOT NULL
)`,
  `CREATE TABLE shop.lines (
  order_id text NOT NULL REFERENCES shop.orders,
  product text NOT NULL REFERENCES shop.products,
  quantity integer NOT NULL,
  price integer NOT NULL,
  PRIMARY KEY (order_id, product)
)`,
  `CREATE TABLE shop.payments (
  order_id text PRIMARY KEY REFERENCES shop.orders,
  customer text NOT NULL REFERENCES shop.customers,
  amount integer NOT NULL
)`
]

const totals = [
  "CREATE SCHEMA totals",
  `CREATE TABLE totals.customers (
  customer text PRIMARY KEY,
  placed integer NOT NULL DEFAULT 0,
  paid integer NOT NULL DEFAULT 0,
  cancelled integer NOT NULL DEFAULT 0,
  spent integer NOT NULL DEFAULT 0,
  latest integer NOT NULL,
  late integer NOT NULL DEFAULT 0
)`,
  `CREATE TABLE totals.products (
  product text PRIMARY KEY,
  sold integer NOT NULL,
  revenue integer NOT NULL
)`
]

const migration = (statements: ReadonlyArray<string>) =>
  SqlClient.SqlClient.use((sql) => Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true }))

const migrate = Migrator.make({})({
  loader: Migrator.fromRecord({ "0001_shop": migration(shop), "0002_totals": migration(totals) }),
  table: "orders_migrations"
})

/** A client of the database, with all tables in it. */
export const layer = (
  url: Redacted.Redacted,
  options?: { readonly maxConnections?: number | undefined }
): Layer.Layer<SqlClient.SqlClient | PgClient.PgClient, SqlError.SqlError | Migrator.MigrationError> =>
  Layer.merge(Migrations.layer, Layer.effectDiscard(migrate)).pipe(
    Layer.provideMerge(PgClient.layer({ ...options, url }))
  )

/**
 * No caller of a command can do anything about the database, so its failures are defects. `Transactional`
 * finds a conflict in a defect too, and runs the command again.
 */
export const orDie = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, Exclude<E, SqlError.SqlError>, R> =>
  Effect.catch(
    effect,
    (error) => SqlError.isSqlError(error) ? Effect.die(error) : Effect.fail(error as Exclude<E, SqlError.SqlError>)
  )

/** Names of topics and groups on a broker that several shops share. */
export const ownName = SqlClient.SqlClient.use((sql) =>
  Effect.map(
    sql<{ id: string }>`SELECT id FROM shop.identity`,
    ([shop]) => (name: string) => `${name}-${shop!.id}`
  )
)

const byProduct = Order.mapInput(Order.String, (line: { readonly product: string }) => line.product)

/** Lines by product: transactions that lock rows in one order wait, but never for each other. */
export const inLockOrder = <L extends { readonly product: string }>(lines: ReadonlyArray<L>): ReadonlyArray<L> =>
  lines.toSorted(byProduct)
