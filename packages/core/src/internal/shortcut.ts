/**
 * Adds a short cut between our own services to one of them, hidden: a copy by
 * spread, which is how a service is decorated, does not have it, so that nobody
 * goes round the decorator.
 */
export const withShortcut = <S extends object, const K extends symbol, V>(
  service: S,
  key: K,
  shortcut: V
): S & { readonly [P in K]: V } =>
  Object.defineProperty(service, key, { value: shortcut }) as S & { readonly [P in K]: V }
