"""What is counted about a document, each as a column of a table."""

from __future__ import annotations

from enum import IntEnum


class Column(IntEnum):
    """The columns. Characters in n-grams (``top_2`` and so on) are counted as in ``word_characters``."""

    bytes = 0
    characters = 1
    visible = 2
    letters = 3
    upper = 4
    digits = 5
    cjk = 6
    broken = 7
    longest_run = 8
    hashes = 9
    ellipses = 10
    braces = 11
    sentences = 12
    words = 13
    plain_words = 14
    letter_words = 15
    number_words = 16
    word_characters = 17
    plain_characters = 18
    stop_words = 19
    function_characters = 20
    lorem = 21
    lines = 22
    newlines = 23
    line_characters = 24
    punctuated_lines = 25
    bullet_lines = 26
    ellipsis_lines = 27
    short_lines = 28
    brief_lines = 29
    narrow_lines = 30
    upper_lines = 31
    code_lines = 32
    repeated_lines = 33
    repeated_line_characters = 34
    paragraphs = 35
    repeated_paragraphs = 36
    repeated_paragraph_characters = 37
    distinct_words = 38
    top_word = 39
    top_2 = 40
    top_3 = 41
    top_4 = 42
    repeated_5 = 43
    repeated_6 = 44
    repeated_7 = 45
    repeated_8 = 46
    repeated_9 = 47
    repeated_10 = 48
    indented_lines = 49
    cjk_punctuation = 50
    flagged_words = 51
    repeated_13 = 52


NAMES = tuple(column.name for column in Column)
