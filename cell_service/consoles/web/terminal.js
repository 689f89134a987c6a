// A guest's serial console, by xterm.js.

import "./styles.js"
import {Terminal} from "./xterm/xterm.mjs"

const COLUMNS = 80
const SIZES = [15, 7]
const SHARE = 0.61  // the width of a letter, of its size

// As a guest takes its terminal to be: 80 columns, and as many rows as there are.
function fit(terminal, place) {
  const [largest, least] = SIZES
  const size = Math.max(least, Math.min(largest, Math.floor((place.clientWidth - 8) / COLUMNS / SHARE)))
  terminal.options.fontSize = size
  const drawn = place.querySelector(".xterm-screen").offsetHeight / terminal.rows
  const row = drawn > size ? drawn : Math.ceil(1.25 * size)
  terminal.resize(COLUMNS, Math.max(5, Math.floor((place.clientHeight - 8) / row)))
}

export function open(place, address) {
  const line = new WebSocket(address, ["binary"])
  const terminal = new Terminal({cols: COLUMNS, scrollback: 5000, fontFamily: "monospace", theme: {background: "#16191b"}})
  const bytes = new TextEncoder()
  const fitted = () => fit(terminal, place)
  const send = (text) => { if (line.readyState === WebSocket.OPEN) line.send(bytes.encode(text)) }
  terminal.open(place)
  fitted()
  addEventListener("resize", fitted)
  line.binaryType = "arraybuffer"
  line.addEventListener("message", (event) => terminal.write(new Uint8Array(event.data)))
  terminal.onData(send)
  terminal.onBinary((text) => {
    if (line.readyState === WebSocket.OPEN) line.send(Uint8Array.from(text, (letter) => letter.charCodeAt(0)))
  })
  return {
    line,
    focus: () => terminal.focus(),
    drop: () => line.close(),
    close: () => { removeEventListener("resize", fitted); terminal.options.disableStdin = true },
  }
}
