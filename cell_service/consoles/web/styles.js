// The page's policy allows styles that have its nonce, and those that are set as properties: viewers make others.

const nonce = document.querySelector("link[nonce]").nonce
const make = document.createElement.bind(document)
document.createElement = (name, ...rest) => {
  const made = make(name, ...rest)
  if (name === "style") made.nonce = nonce
  return made
}
const set = Element.prototype.setAttribute
Element.prototype.setAttribute = function (name, value) {
  if (name === "style") this.style.cssText = value
  else set.call(this, name, value)
}
