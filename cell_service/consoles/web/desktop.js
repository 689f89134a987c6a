// A guest's screen, by spice-html5.

import "./styles.js"
import {SpiceMainConn} from "./spice/main.js"
import {Constants} from "./spice/enums.js"
import {SpiceMiniData, SpiceMsgcKeyDown} from "./spice/spicemsg.js"

const RELEASED = 0x80
const SHIFT = 0x2a
const CTRL_ALT_DEL = [[0x1d], [0x38], [0xe0, 0x53]]
// The codes of a keyboard's rows (IBM PC, set 1), each with the first of the row; keys and shifted keys of a US layout.
const ROWS = [
  [0x02, "1234567890-=", "!@#$%^&*()_+"], [0x10, "qwertyuiop[]", "QWERTYUIOP{}"],
  [0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"], [0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"], [0x39, " ", ""],
]
const NAMED = {Enter: 0x1c, Backspace: 0x0e}
const PASSING = ["Connection refused.", "Connection timed out."]

// All of spice-html5's web sockets, one a channel: it loses some of those that it opens. `parent`: the channel.
const lines = new Set()
const Plain = window.WebSocket
window.WebSocket = class extends Plain {
  constructor(...address) {
    super(...address)
    lines.add(this)
    this.addEventListener("close", () => lines.delete(this))
  }
}

// spice-html5 says by an alert that a key has no code, which would stop the page.
window.alert = (words) => console.info(words)

// The code of a key, and whether it is shifted; null for one that the layout does not have.
function codeOf(name) {
  if (NAMED[name]) return [NAMED[name], false]
  for (const [first, plain, shifted] of ROWS) {
    if (plain.includes(name)) return [first + plain.indexOf(name), false]
    if (shifted.includes(name)) return [first + shifted.indexOf(name), true]
  }
  return null
}

// Fit the guest's screen into its place; spice-html5 takes the pointer's place from the canvas as it was before.
function fit(place) {
  const canvas = place.querySelector("canvas")
  if (!canvas?.width) return
  const scale = Math.min(place.clientWidth / canvas.width, place.clientHeight / canvas.height)
  const middle = (whole, part) => `${Math.max(0, (whole - part * scale) / 2)}px`
  Object.assign(canvas.style, {
    position: "absolute", transformOrigin: "0 0", transform: `scale(${scale})`, outline: "none",
    left: middle(place.clientWidth, canvas.width), top: middle(place.clientHeight, canvas.height),
  })
}

export function open(place, address) {
  let problem = ""
  const connection = new SpiceMainConn({
    uri: address, screen_id: place.id, password: "",
    onerror: (error) => {
      const passing = !error?.message || error.message.startsWith("Unexpected close") || PASSING.includes(error.message)
      if (!passing) problem = `The console refuses: ${error.message}`
    },
  })
  const line = connection.ws
  const fitted = () => fit(place)
  const drawn = new MutationObserver(() => { fitted(); place.querySelector("canvas")?.focus() })
  drawn.observe(place, {childList: true})
  addEventListener("resize", fitted)

  // `bytes`: a key's code, of one byte, or of two with the first of an extended key.
  function press(bytes, down) {
    const inputs = connection.inputs
    if (inputs?.state !== "ready") return
    const key = new SpiceMsgcKeyDown()
    const sent = [...bytes.slice(0, -1), bytes.at(-1) | (down ? 0 : RELEASED)]
    key.code = sent.reduce((code, byte, at) => code | byte << 8 * at, 0)
    const message = new SpiceMiniData()
    message.build_msg(down ? Constants.SPICE_MSGC_INPUTS_KEY_DOWN : Constants.SPICE_MSGC_INPUTS_KEY_UP, key)
    inputs.send_msg(message)
  }
  function strike(keys) {
    for (const each of keys) press(each, true)
    for (const each of keys.toReversed()) press(each, false)
  }
  return {
    line,
    ctrlAltDel: () => strike(CTRL_ALT_DEL),
    key: (name) => {
      const [code, shifted] = codeOf(name) || []
      if (code) strike(shifted ? [[SHIFT], [code]] : [[code]])
    },
    focus: () => place.querySelector("canvas")?.focus(),
    drop: () => line.close(),
    close: () => {
      drawn.disconnect()
      removeEventListener("resize", fitted)
      const left = [...lines]
      for (const {parent} of left) parent.send_msg = () => {}  // answers to what comes until they are closed
      connection.stop()
      for (const {parent} of left) parent.cleanup()
      place.style.cssText = ""
    },
    problem: () => problem,
  }
}
