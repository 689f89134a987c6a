# ADDRESS/MASK to ADDRESS/BITS: 255.255.255.0 or ffff:ffff:: become 24 and 32; bits stay as they are.

BEGIN { FS = "/" }

{
    mask = $2
    if (mask == "") mask = index($1, ":") ? "128" : "32"
    if (mask !~ /[.:]/) { print $1 "/" mask; next }
    bits = 0
    four = index(mask, ".")
    count = split(mask, part, four ? "." : ":")
    for (i = 1; i <= count; i++) {
        number = 0
        if (four) number = part[i] + 0
        else for (j = 1; j <= length(part[i]); j++)
            number = number * 16 + index("0123456789abcdef", tolower(substr(part[i], j, 1))) - 1
        for (; number > 0; number = int(number / 2)) bits += number % 2
    }
    print $1 "/" bits
}
