/**
 * Reads a Schema's AST once, when a class is defined, and answers two questions
 * about its fields: can a plain check replace the schema pass of a constructor,
 * and is the encoded form the value itself?
 *
 * The reason: constructing a Schema class of six fields takes about 500 ns and
 * encoding one about 400 ns, as long as a whole dispatch. Both fast paths only
 * say "this is valid as it is". Everything else goes through the Schema, which
 * decides what is valid, fills in defaults and writes the error messages.
 */
import type * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"

type Predicate = (value: unknown) => boolean

/** A field whose constructor value can be checked without the Schema. */
export interface FastField {
  readonly name: string
  readonly isOptional: boolean
  readonly isValid: Predicate
}

const parseOptions: SchemaAST.ParseOptions = {}

const isFilterValid = (check: SchemaAST.Check<never>, value: unknown, ast: SchemaAST.AST): boolean =>
  // The checks of a field take what its predicate has let through
  check._tag === "Filter"
    ? check.run(value as never, ast, parseOptions) === undefined
    : check.checks.every((inner) => isFilterValid(inner, value, ast))

const withChecks = (ast: SchemaAST.AST, isValid: Predicate): Predicate => {
  const checks = ast.checks
  if (checks === undefined) return isValid
  return (value) => isValid(value) && checks.every((check) => isFilterValid(check, value, ast))
}

const isString: Predicate = (value) => typeof value === "string"
const isNumber: Predicate = (value) => typeof value === "number"
const isBoolean: Predicate = (value) => typeof value === "boolean"
const isBigInt: Predicate = (value) => typeof value === "bigint"
const isNull: Predicate = (value) => value === null
const isUndefined: Predicate = (value) => value === undefined

/** The check of an immutable scalar, or undefined for everything else. */
const predicate = (ast: SchemaAST.AST): Predicate | undefined => {
  switch (ast._tag) {
    case "String":
      return withChecks(ast, isString)
    case "Number":
      return withChecks(ast, isNumber)
    case "Boolean":
      return withChecks(ast, isBoolean)
    case "BigInt":
      return withChecks(ast, isBigInt)
    case "Null":
      return withChecks(ast, isNull)
    case "Undefined":
      return withChecks(ast, isUndefined)
    case "Literal": {
      const literal = ast.literal
      return withChecks(ast, (value) => value === literal)
    }
    case "Union": {
      if (ast.options?.mode === "oneOf") return undefined
      const members: Array<Predicate> = []
      for (const type of ast.types) {
        const member = predicate(type)
        if (member === undefined) return undefined
        members.push(member)
      }
      return withChecks(ast, (value) => members.some((member) => member(value)))
    }
    default:
      return undefined
  }
}

/**
 * The fields of a struct as plain checks, or undefined when one of them needs
 * the Schema: nested structures, class instances, transformations with
 * defaults.
 */
export const fastFields = (fields: Schema.Struct.Fields): ReadonlyArray<FastField> | undefined => {
  const out: Array<FastField> = []
  for (const name of Reflect.ownKeys(fields)) {
    // Every object has these names, and "__proto__" cannot be assigned
    if (typeof name === "symbol" || name in Object.prototype) return undefined
    const ast = SchemaAST.toType(fields[name]!.ast)
    const isValid = predicate(ast)
    if (isValid === undefined) return undefined
    // The Schema fills in defaults
    const hasDefault = ast.context?.constructorDefault !== undefined
    const isOptional = ast.context?.isOptional === true && !hasDefault
    // It also tells a missing key from an undefined value, where the key is required
    if (!isOptional && !hasDefault && isValid(undefined)) return undefined
    out.push({
      name,
      isOptional,
      isValid: hasDefault ? (value) => value !== undefined && isValid(value) : isValid
    })
  }
  return out
}

const isJsonScalar = (ast: SchemaAST.AST): boolean => {
  if (ast.encoding !== undefined) return false
  switch (ast._tag) {
    case "String":
    case "Boolean":
    case "Null":
    case "Number":
      return true
    case "Literal":
      return typeof ast.literal !== "bigint"
    case "Union":
      return ast.options?.mode !== "oneOf" && ast.types.every(isJsonScalar)
    default:
      return false
  }
}

/**
 * The names of the fields, if the JSON form of each one is the value itself;
 * otherwise undefined. A number that is not finite has another JSON form: the
 * caller checks values as it copies them.
 */
export const jsonIdentityFields = (fields: Schema.Struct.Fields): ReadonlyArray<string> | undefined => {
  const out: Array<string> = []
  for (const name of Reflect.ownKeys(fields)) {
    if (name === "_tag") continue
    if (typeof name === "symbol" || name === "__proto__") return undefined
    if (!isJsonScalar(fields[name]!.ast)) return undefined
    out.push(name)
  }
  return out
}
