"""Common words that the people of the world say, by espeak-ng language."""

_ENGLISH = tuple(
    """hello people water bread summer window music morning evening friend mother father river mountain
    paper picture story simple wonderful beautiful happy often maybe never always every other people
    moon spoon apple orange banana voice choice family open over under about above around believe better
    between both bring build buy call change children come could different down each enough example far
    find first follow food four garden give good great house important keep kind know laugh learn leave
    light like little live long look make many mean more move much must name need new night number off
    old only our own part place play point power problem question quite read really remember right room
    same say school see seem several should show small some sound speak start still stop such system
    take talk tell thank thing think three through time together tomorrow travel tree true try turn two
    use very village walk want watch way we welcome well what where which white who why will winter with
    woman word work world would year yes yellow you young fish five very wave above love""".split()
)
_GERMAN = tuple(
    """hallo guten morgen freund wasser brot sommer fenster musik abend mutter vater berg papier bild
    geschichte einfach wunderbar immer vielleicht niemals apfel stimme familie offen unter über glauben
    besser zwischen bringen bauen kommen anders vier garten geben haus wichtig lachen lernen licht leben
    lange machen viele neu nacht nummer alt platz spielen frage lesen zimmer schule klein sprechen
    danken drei zeit zusammen reisen baum wahr zwei dorf""".split()
)
_FRENCH = tuple(
    """bonjour monde musique matin soir maison famille beaucoup toujours jamais pomme voix amour ouvert
    apprendre lumière petit grand nouveau nuit numéro place jouer question lire chambre école parler
    merci temps ensemble voyage arbre deux trois quatre village hiver printemps femme homme belle
    histoire fenêtre papier montagne""".split()
)
_SPANISH = tuple(
    """hola mundo música mañana noche casa familia mucho siempre nunca manzana voz amor abierto aprender
    luz pequeño grande nuevo número lugar jugar pregunta leer escuela hablar gracias tiempo juntos viaje
    árbol dos tres cuatro pueblo invierno verano mujer hombre historia ventana papel montaña agua pan
    amigo madre padre""".split()
)
_ITALIAN = tuple(
    """ciao mondo musica mattina sera casa famiglia molto sempre mai mela voce amore aperto imparare luce
    piccolo grande nuovo numero posto giocare domanda leggere scuola parlare grazie tempo insieme
    viaggio albero due tre quattro inverno estate donna uomo storia finestra carta montagna acqua pane
    amico madre padre""".split()
)

WORDS: dict[str, tuple[str, ...]] = {
    "en-us": _ENGLISH,
    "en": _ENGLISH,
    "de": _GERMAN,
    "fr": _FRENCH,
    "es": _SPANISH,
    "it": _ITALIAN,
}
"""Vocabulary of each language that identities speak."""
