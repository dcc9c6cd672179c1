import type { Run } from "./surroundings.ts"
export const setup = (): Run | undefined => undefined
