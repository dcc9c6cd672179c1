/** The schemas that a list of schemas stands for, when unions are taken apart. */
import type * as Schema from "effect/Schema"

/** The members of unions in place of the unions, and without `Schema.Never`. */
export type Leaves<S extends Schema.Top> = S extends Schema.Never ? never
  : S extends Schema.Union<infer Members extends ReadonlyArray<Schema.Top>> ? Leaves<Members[number]>
  : S

/** The same as values, each once. A union with checks or annotations of its own stays whole. */
export const leavesOf = (schemas: ReadonlyArray<Schema.Top>): ReadonlyArray<Schema.Top> => [
  ...new Set(schemas.flatMap((schema): ReadonlyArray<Schema.Top> => {
    if (schema.ast._tag === "Never") return []
    return isPlainUnion(schema) ? leavesOf(schema.members) : [schema]
  }))
]

const isPlainUnion = (schema: Schema.Top): schema is Schema.Union<ReadonlyArray<Schema.Top>> =>
  schema.ast._tag === "Union" && schema.ast.checks === undefined && schema.ast.annotations === undefined &&
  "members" in schema
