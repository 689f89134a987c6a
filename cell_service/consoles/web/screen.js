// A guest's screen, by noVNC.

import RFB from "./novnc/core/rfb.js"
import keysyms from "./novnc/core/input/keysymdef.js"

const NAMED = {Enter: 0xff0d, Backspace: 0xff08}

export function open(place, address) {
  const line = new WebSocket(address, ["binary"])
  const screen = new RFB(place, line, {shared: true})
  let problem = ""
  screen.scaleViewport = true
  screen.background = "#16191b"
  screen.addEventListener("securityfailure", (event) => { problem = `The console refuses: ${event.detail.reason || "no reason"}` })
  screen.addEventListener("credentialsrequired", () => { problem = "The console demands a password"; line.close() })
  return {
    line,
    ctrlAltDel: () => screen.sendCtrlAltDel(),
    key: (name) => screen.sendKey(NAMED[name] || keysyms.lookup(name.codePointAt(0))),
    focus: () => screen.focus(),
    drop: () => line.close(),
    close: () => {},
    problem: () => problem,
  }
}
