/** Ports, programs and waiting, for the modules that start servers. Imports nothing but Node. */
import { execFile, type ExecFileOptions } from "node:child_process"
import { type AddressInfo, createServer } from "node:net"

export const pause = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis))

/** Waits until a condition holds, for two minutes, since machines are slow. What the condition throws ends the wait. */
export const until = async (what: string, condition: () => boolean | Promise<boolean>): Promise<void> => {
  const deadline = performance.now() + 120_000
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`${what}: not within two minutes`)
    await pause(20)
  }
}

/** Free ports of the loopback interface. They are held until all are known, so that no two are equal. */
export const freePorts = async (count: number): Promise<ReadonlyArray<number>> => {
  const servers = Array.from({ length: count }, () => createServer())
  const ports: Array<number> = []
  for (const server of servers) {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject)
      server.listen(0, "127.0.0.1", resolve)
    })
    // An AddressInfo for every server that listens on a port
    ports.push((server.address() as AddressInfo).port)
  }
  for (const server of servers) await new Promise((resolve) => server.close(resolve))
  return ports
}

export const freePort = async (): Promise<number> => (await freePorts(1))[0]!

/** Runs a program and gives its output. Fails with both outputs when the program does. */
export const run = (command: string, args: ReadonlyArray<string>, options: ExecFileOptions = {}): Promise<string> =>
  new Promise((resolve, reject) => {
    execFile(command, args, { timeout: 120_000, ...options, encoding: "utf8" }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(new Error(`${command} ${args.join(" ")}: ${error.message}\n${stdout}${stderr}`.trim()))
    })
  })
