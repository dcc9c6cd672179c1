// A registry or a mirror may lack binaries of other platforms. npm then leaves them out of package-lock.json, and
// `npm ci` refuses such a lock ("Missing: ... from lock file"). This adds their entries, without integrity:
// `node scripts/complete-lock.mjs` after an `npm install` that changed dependencies.
import { readFileSync, writeFileSync } from "node:fs"
const lock = JSON.parse(readFileSync("package-lock.json", "utf8"))
const oses = ["aix", "android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "openharmony", "sunos", "win32"]
const cpus = ["arm", "arm64", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "wasm32", "x64"]
const added = []
for (const [path, entry] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    let dir = path // where node would find it
    let found = false
    for (;;) {
      if (`${dir === "" ? "" : dir + "/"}node_modules/${name}` in lock.packages) found = true
      if (found || dir === "") break
      dir = dir.includes("/node_modules/") ? dir.slice(0, dir.lastIndexOf("/node_modules/")) : ""
    }
    if (found) continue
    const words = name.split(/[/-]/)
    const os = words.filter((word) => oses.includes(word)), cpu = words.filter((word) => cpus.includes(word))
    if (os.length !== 1 || cpu.length !== 1 || !/^\d[\w.-]*$/.test(version)) {
      console.error(`not a platform package, left out: ${name}@${version}`)
      continue
    }
    const libc = words.includes("musl")
      ? ["musl"]
      : words.includes("gnu") || words.includes("glibc")
      ? ["glibc"]
      : undefined
    const target = `${
      path.includes("/node_modules/") ? path.slice(0, path.lastIndexOf("/node_modules/")) + "/" : ""
    }node_modules/${name}`
    lock.packages[target] = {
      version,
      cpu,
      ...(entry.dev && { dev: true }),
      ...(libc && { libc }),
      license: entry.license,
      optional: true,
      os
    }
    added.push(target)
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => a.localeCompare(b, "en")))
writeFileSync("package-lock.json", JSON.stringify(lock, null, 2) + "\n")
console.log(`${added.length} entries added`)
