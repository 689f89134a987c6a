"""Operations on servers, apart from the forms of the wire: create, find, list, act, delete."""
