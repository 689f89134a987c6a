# Flatten JSON: one line a value, `path<TAB>value`, like .networks[0].link. Strings are unescaped except that a line end
# stays \n (a line is a value); null is empty. For any awk, busybox's among them.
# A document that is not whole JSON gives the lines up to the mistake, and exit 1.

{ text = text $0 "\n" }

END {
    at = 1
    value("")
    blank()
    exit broken || at <= length(text)
}

function blank() { while (substr(text, at, 1) ~ /^[ \t\r\n]$/) at++ }

function wrong() { broken = 1; at = length(text) + 1 }

function value(path,   first, index_, key, word) {
    blank()
    first = substr(text, at, 1)
    if (first == "{") {
        at++
        blank()
        if (substr(text, at, 1) == "}") { at++; return }
        while (!broken) {
            blank()
            if (substr(text, at, 1) != "\"") { wrong(); return }
            key = string()
            blank()
            if (substr(text, at++, 1) != ":") { wrong(); return }
            value(path "." key)
            if (!another("}")) return
        }
    } else if (first == "[") {
        at++
        blank()
        if (substr(text, at, 1) == "]") { at++; return }
        for (index_ = 0; !broken; index_++) {
            value(path "[" index_ "]")
            if (!another("]")) return
        }
    } else if (first == "\"") {
        word = string()
        if (!broken) print path "\t" word
    } else {
        if (!match(substr(text, at, 40), /^[-+.0-9a-zA-Z]+/)) { wrong(); return }
        word = substr(text, at, RLENGTH)
        at += RLENGTH
        print path "\t" (word == "null" ? "" : word)
    }
}

function another(end,   next_) {
    blank()
    next_ = substr(text, at++, 1)
    if (next_ == ",") return 1
    if (next_ != end) wrong()
    return 0
}

function string(   out, char) {
    at++
    out = ""
    while (at <= length(text)) {
        if (match(substr(text, at, 4096), /^[^"\\]+/)) { out = out substr(text, at, RLENGTH); at += RLENGTH; continue }
        char = substr(text, at++, 1)
        if (char == "\"") return out
        char = substr(text, at++, 1)
        if (char == "u") { out = out letter(substr(text, at, 4)); at += 4 }
        else if (char == "n") out = out "\\n"
        else if (char == "t") out = out " "
        else if (char !~ /[rbf]/) out = out char
    }
    wrong()
    return out
}

function letter(digits,   code, place) {
    code = 0
    for (place = 1; place <= 4; place++)
        code = code * 16 + index("0123456789abcdef", tolower(substr(digits, place, 1))) - 1
    return code >= 32 && code < 127 ? sprintf("%c", code) : "?"
}
