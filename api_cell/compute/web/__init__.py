"""Pages for people, and the files that they load: a viewer of the OpenAPI document, and a page that says what is here.

They load nothing from elsewhere, and run no script but files of their own.
"""
