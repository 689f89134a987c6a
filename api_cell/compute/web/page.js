// Shows the OpenAPI document of one microversion in Swagger UI.
"use strict"

const dark = matchMedia("(prefers-color-scheme: dark)")
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches)
dark.addEventListener("change", paint)
paint()

const chosen = document.getElementById("microversion")
for (let minor = Number(chosen.dataset.newest); minor > 0; minor--) chosen.add(new Option(`2.${minor}`))
const wanted = new URLSearchParams(location.search).get("microversion")
if ([...chosen.options].some(option => option.value === wanted)) chosen.value = wanted
const address = () => `openapi.json?microversion=${chosen.value}`

// The filter looks at titles, paths and descriptions, where Swagger UI's own looks at the names of groups only.
const words = each => [each.get("method"), each.get("path"), ...["summary", "description", "tags"].map(
  name => each.getIn(["operation", name], ""))].join(" ").toLowerCase()
const filtered = (groups, phrase) => groups
  .map(group => group.update("operations", all => all.filter(each => words(each).includes(phrase.toLowerCase()))))
  .filter(group => group.get("operations").size)

const ui = SwaggerUIBundle({
  url: address(),
  dom_id: "#operations",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: -1,
  defaultModelExpandDepth: 4,
  filter: true,
  validatorUrl: null,
  plugins: [{fn: {opsFilter: filtered}}],
})

chosen.addEventListener("change", () => {
  history.replaceState(null, "", `?microversion=${chosen.value}${location.hash}`)
  ui.specActions.updateUrl(address())
  ui.specActions.download(address())
})
