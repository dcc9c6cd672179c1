/** What the type tests share. They are checked by `tsc` and never run. */
import type { Effect, Layer, Stream } from "effect"

/** Whether two types are the same, and not merely assignable to each other. */
export type Equals<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

/** `check<Equals<A, B>>()` compiles when the types are the same. */
export declare const check: <T extends true>() => T

export type SuccessOf<T> = T extends Effect.Effect<infer A, infer _E, infer _R> ? A
  : T extends Stream.Stream<infer A, infer _E, infer _R> ? A
  : "neither effect nor stream"
export type ErrorOf<T> = T extends Effect.Effect<infer _A, infer E, infer _R> ? E
  : T extends Stream.Stream<infer _A, infer E, infer _R> ? E
  : T extends Layer.Layer<infer _A, infer E, infer _R> ? E
  : "neither effect nor stream nor layer"
export type ServicesOf<T> = T extends Effect.Effect<infer _A, infer _E, infer R> ? R
  : T extends Stream.Stream<infer _A, infer _E, infer R> ? R
  : T extends Layer.Layer<infer _A, infer _E, infer R> ? R
  : "neither effect nor stream nor layer"
export type ProvidedBy<T> = T extends Layer.Layer<infer A, infer _E, infer _R> ? A : "no layer"
