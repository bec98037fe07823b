"""What people type to prove who they are: in one form, and not too easy to guess."""

from __future__ import annotations

import re
import unicodedata

from tutelage.web.refusal import Refusal

SHORTEST = 12
LONGEST = 256

_COMMON = frozenset(
    """
    abc abcd abcdef abcdefghijkl admin administrator aaaa asdf asdfgh asdfghjkl baseball batman changeme charlie
    computer correcthorsebatterystaple default dragon facebook flower football freedom gfhjkm google guest
    hello helloworld hunter iloveyou iloveu internet jennifer jordan killer letmein liverpool login lovely loveme master
    michael minecraft monkey mustang mynoob nothing ninja pass password passw passwort motdepasse contrasena pokemon
    princess qazwsx qazwsxedc qwer qwert qwerty qwertyu qwertyuiop qwertzuiop azerty azertyuiop root samsung secret
    shadow sunshine starwars superman test testing thisisapassword trustno trustnoone user welcome whatever woaini
    woaiwojia x zxcvbn zxcvbnm zaqxsw zaqwsx mima wodemima tutelage label labelling annotator
    """.split()
)
"""Words on which the most used passwords stand, alone or repeated, with digits and signs around them."""
_LEET = str.maketrans("013457@$!", "oieastasi")
_RUNS = ("01234567890123456789", "98765432109876543210", "abcdefghijklmnopqrstuvwxyz", "zyxwvutsrqponmlkjihgfedcba")


def normal(password: str) -> str:
    """A password as it is hashed: however a keyboard composes its letters."""
    return unicodedata.normalize("NFKC", password)


def check(password: str, email: str, name: str) -> None:
    """That a new password is long, and not one that everybody tries.

    Raises:
        Refusal: saying which of these it is.
    """
    plain = normal(password).casefold()
    if len(plain) < SHORTEST:
        raise Refusal("weak_password", f"a password has at least {SHORTEST} characters")
    if len(plain) > LONGEST:
        raise Refusal("weak_password", f"a password has at most {LONGEST} characters")
    own = [part for part in re.split(r"[^\w]+", f"{email} {name}".casefold()) if len(part) >= 4]
    left = plain
    for part in own:
        left = left.replace(part, "")
    if len(left) < SHORTEST // 2:
        raise Refusal("weak_password", "this password is mostly your own name")
    if len(set(plain)) < 5 or any(plain in run * 2 for run in _RUNS) or _repeats(plain) or _is_common(plain):
        raise Refusal("weak_password", "this password is among the first that anybody would try")


def email(value: str) -> str:
    """An address as it is kept.

    Raises:
        Refusal: it is none.
    """
    value = unicodedata.normalize("NFC", value.strip())
    if len(value) > 254 or not re.fullmatch(r"[^\s@\x00-\x1f\ud800-\udfff]+@[^\s@\x00-\x1f\ud800-\udfff]+", value):
        raise Refusal("bad_input", "this is not an e-mail address")
    return value


def email_key(value: str) -> str:
    """The form in which two ways of writing one address are the same."""
    sound = value.replace("\x00", "").encode(errors="replace").decode()
    return unicodedata.normalize("NFKC", sound.strip()).casefold()


def clean_name(value: str) -> str:
    """A name as it is kept.

    Raises:
        Refusal: it is empty or too long.
    """
    value = " ".join(unicodedata.normalize("NFC", value).split())
    if not 1 <= len(value) <= 80 or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in value):
        raise Refusal("bad_input", "a name has 1 to 80 letters")
    return value


def _is_common(plain: str) -> bool:
    """Whether nothing is left without the words on which common passwords stand."""
    bare = re.sub(r"^[\W\d_]+|[\W\d_]+$", "", plain)
    forms = {re.sub(r"[\W\d_]+", "", plain), re.sub(r"[\W\d_]+", "", bare.translate(_LEET))}
    return any(not form or form in _COMMON or _made_of_common(form) for form in forms) and not _many_digits(plain)


def _many_digits(plain: str) -> bool:
    """Sixteen digits or signs in no simple order are not common, whatever word stands beside them."""
    return len(re.sub(r"[^\d\W_]", "", plain)) >= 16 and len(set(plain)) >= 10


def _made_of_common(form: str) -> bool:
    """Whether a text is one common word after the other, at most three."""
    words = "|".join(sorted((word for word in _COMMON if len(word) > 2), key=len, reverse=True))
    return re.fullmatch(f"(?:{words}){{1,3}}", form) is not None


def _repeats(plain: str) -> bool:
    """Whether a text is a short one, several times."""
    return (plain + plain).find(plain, 1) <= len(plain) // 2
