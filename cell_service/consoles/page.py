"""The page for a browser that opens a console's address where no viewer is installed: it shows the console as text."""

from __future__ import annotations

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Console of a server</title>
<style>
body { background: #111; color: #ddd; font: 15px/1.4 system-ui, sans-serif; margin: 0; padding: 0 .8em }
pre { font: 14px/1.3 monospace; overflow-wrap: anywhere; white-space: pre-wrap }
</style>
<p id="state">connecting</p>
<pre id="shown"></pre>
<script>
const asked = new URLSearchParams(location.search)
const within = new URLSearchParams((asked.get("path") || "").replace(/^[^?]*/, ""))
const token = asked.get("token") || within.get("token") || ""
const scheme = location.protocol === "https:" ? "wss://" : "ws://"
const line = new WebSocket(scheme + location.host + "/websockify?token=" + encodeURIComponent(token), "binary")
const bytes = new TextDecoder()
const state = document.getElementById("state"), shown = document.getElementById("shown")
const keys = {Enter: "\\r", Backspace: "\\x7f", Tab: "\\t", Escape: "\\x1b"}
line.binaryType = "arraybuffer"
line.onopen = () => { state.textContent = "connected: type; bytes are shown as text" }
line.onclose = () => { state.textContent = "closed" }
line.onmessage = (event) => { shown.textContent += bytes.decode(event.data, {stream: true}) }
document.onkeydown = (event) => {
  const typed = keys[event.key] || (event.key.length === 1 ? event.key : "")
  if (!typed || event.metaKey || event.altKey) return
  const control = event.ctrlKey ? String.fromCharCode(typed.toUpperCase().charCodeAt(0) & 31) : typed
  line.send(new TextEncoder().encode(control))
  event.preventDefault()
}
</script>
</html>
"""
