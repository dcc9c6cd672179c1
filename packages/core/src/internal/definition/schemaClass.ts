/**
 * Makes the classes of commands and events: a `Schema.TaggedClass` behind a
 * constructor that skips the schema pass for input that a plain check proves
 * valid (see `fastPath.ts`).
 *
 * All casts of class construction are here: a class expression whose shape
 * depends on a type parameter cannot be typed in another way.
 */
import * as Schema from "effect/Schema"
import type { FastField } from "./fastPath.ts"
import { fastFields } from "./fastPath.ts"

type Constructor = new(input: unknown, options?: unknown) => object

type Body = (this: Record<string, unknown>, input: unknown, options?: unknown) => unknown

/**
 * Generates straight-line code, which costs a third of the loop below: every
 * property is read and written by name, so V8 gives each class a shape of its
 * own. Field names are quoted, and values never enter the source.
 */
const compileBody = (tag: string, fields: ReadonlyArray<FastField>, base: Constructor): Body => {
  const names = fields.map((field) => JSON.stringify(field.name))
  const reads = fields.map((_, i) => `const v${i} = input[${names[i]}]`)
  const checks = fields.map((field, i) => {
    const present = `${names[i]} in input`
    if (field.isOptional) return `(!(${present}) || valid[${i}](v${i}))`
    return field.isValid(undefined) ? `${present} && valid[${i}](v${i})` : `valid[${i}](v${i})`
  })
  const assignments = fields.map((field, i) =>
    field.isOptional ? `if (${names[i]} in input) this[${names[i]}] = v${i}` : `this[${names[i]}] = v${i}`
  )
  const source = `"use strict"
return function(input, options) {
  if (options === undefined && isPlain(input)) {
    ${reads.join("\n    ")}
    if (${["true", ...checks].join(" && ")}) {
      this._tag = ${JSON.stringify(tag)}
      ${assignments.join("\n      ")}
      return
    }
  }
  return Reflect.construct(base, [input, options], new.target)
}`
  return new Function("valid", "isPlain", "base", source)(fields.map((field) => field.isValid), isPlain, base)
}

/** Whether it is a plain object without a tag. For names of fast fields, "in" and "own" mean the same on such an object. */
const isPlain = (input: unknown): input is Record<string, unknown> =>
  typeof input === "object" && input !== null && Object.getPrototypeOf(input) === Object.prototype && !("_tag" in input)

/** The same without code generation, for programs whose content security policy forbids it. */
const loopBody = (tag: string, fields: ReadonlyArray<FastField>, base: Constructor): Body =>
  function(input, options) {
    if (options === undefined && isPlain(input)) {
      const values = fields.map((field) => input[field.name])
      const isValid = fields.every((field, i) => field.name in input ? field.isValid(values[i]) : field.isOptional)
      if (isValid) {
        this._tag = tag
        fields.forEach((field, i) => {
          if (field.name in input) this[field.name] = values[i]
        })
        return
      }
    }
    return Reflect.construct(base, [input, options], new.target)
  }

const slowBody = (base: Constructor): Body =>
  function(input, options) {
    return Reflect.construct(base, [input, options], new.target)
  }

const makeBody = (tag: string, fields: ReadonlyArray<FastField> | undefined, base: Constructor): Body => {
  if (fields === undefined) return slowBody(base)
  try {
    return compileBody(tag, fields, base)
  } catch {
    return loopBody(tag, fields, base)
  }
}

/**
 * Makes a schema class with `_tag`, extra statics and extra hidden members of
 * the prototype. The caller casts the result to its own class interface.
 */
export const make = (options: {
  readonly tag: string
  readonly fields: Schema.Struct.Fields
  readonly statics: object
  readonly prototype: Readonly<Record<string, unknown>>
}): unknown => {
  const { fields, tag } = options
  // Its constructor takes the fields, of which nothing is known here
  const base = Schema.TaggedClass<object>()(tag, fields) as unknown as Constructor
  const body = makeBody(tag, fastFields(fields), base)
  Object.setPrototypeOf(body, base)
  const prototype: object = Object.create(base.prototype, {
    constructor: { value: body, configurable: true, writable: true }
  })
  // Hidden from JSON, Equal and inspection: only own enumerable fields are data
  for (const [key, value] of Object.entries(options.prototype)) {
    Object.defineProperty(prototype, key, { value, configurable: true })
  }
  Object.defineProperty(body, "prototype", { value: prototype })
  for (const [key, descriptor] of Object.entries(Object.getOwnPropertyDescriptors(options.statics))) {
    Object.defineProperty(body, key, { ...descriptor, configurable: true })
  }
  return body
}
