// The page of a console: it connects the viewer of the console's kind, and again when the connection has ended.

const query = new URLSearchParams(location.search)
const within = new URLSearchParams((query.get("path") || "").replace(/^[^?]*/, ""))
const token = encodeURIComponent(query.get("token") || within.get("token") || "")
const here = new URL(".", location.href)
const socket = new URL(`websockify?token=${token}`, here)
socket.protocol = here.protocol === "https:" ? "wss:" : "ws:"

const REVOKED = 4403
const REFUSED = 4502
const LONGEST_PAUSE = 30
// Each has `open(place, address)`: it connects to the address of a web socket, its `line`.
const VIEWERS = {novnc: "./screen.js", "spice-html5": "./desktop.js", serial: "./terminal.js"}
const by = (id) => document.getElementById(id)
let viewer = null
let wake = () => {}

function say(words, bad = false) {
  by("line").textContent = words
  by("line").classList.toggle("bad", bad)
}

async function about() {
  try {
    const answer = await fetch(new URL(`about?token=${token}`, here), {cache: "no-store"})
    return answer.ok ? await answer.json() : {refused: answer.status}
  } catch {
    return {refused: 0}
  }
}

function show(facts) {
  by("name").textContent = facts.name
  by("state").textContent = facts.state
  document.title = `${facts.name}: console`
}

// Connect, and return when the connection has ended: with whether it may be tried again.
async function connected() {
  const facts = await about()
  if (facts.refused === 403) {
    say("This address opens no console any more. Request another: openstack console url show", true)
    return {again: false, opened: false}
  }
  if (facts.refused !== undefined) {
    say("The cloud does not answer: trying again", true)
    return {again: true, opened: false}
  }
  show(facts)
  if (!VIEWERS[facts.kind]) {
    say("This page has no viewer for consoles of this kind", true)
    return {again: false, opened: false}
  }
  by("place").replaceChildren()
  const {open} = await import(VIEWERS[facts.kind])
  viewer = open(by("place"), socket.href)
  const {line} = viewer
  let opened = false
  const ended = new Promise((done) => line.addEventListener("close", done))
  line.addEventListener("open", () => { opened = true; say("connected") })
  by("cad").hidden = by("keys").hidden = !viewer.ctrlAltDel
  viewer.focus()
  const {code, reason} = await ended
  viewer.close()
  const said = viewer.problem?.()
  viewer = null
  by("cad").hidden = by("keys").hidden = true
  if (code === REVOKED || code === REFUSED) {
    say(reason, true)
    return {again: false, opened}
  }
  say(said || (opened ? "The connection has ended" : "The console cannot be reached"), true)
  return {again: !said, opened}
}

async function run() {
  let pause = 1
  for (;;) {
    say("connecting")
    const {again, opened} = await connected()
    pause = opened ? 1 : Math.min(2 * pause, LONGEST_PAUSE)
    await new Promise((done) => { wake = done; if (again) setTimeout(done, 1000 * pause) })
  }
}

// Keys of a telephone come as text: each is sent as it is typed.
function typed(event) {
  if (event.inputType === "deleteContentBackward") viewer?.key("Backspace")
  for (const letter of event.data || (event.inputType === "insertLineBreak" ? "\n" : "")) {
    viewer?.key(letter === "\n" ? "Enter" : letter)
  }
  by("typed").value = "\u00a0"
}

by("again").addEventListener("click", () => { if (viewer) viewer.drop(); else wake() })
by("cad").addEventListener("click", () => { viewer?.ctrlAltDel(); viewer?.focus() })
by("keys").addEventListener("click", () => by("typed").focus())
by("typed").addEventListener("input", typed)
by("full").addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen()
  else document.documentElement.requestFullscreen?.()
  viewer?.focus()
})
run()
