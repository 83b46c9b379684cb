"""Every word the picture world says: the mini model's tokenizer holds each of them as one token."""

TEXT = """
'S A B C D E F G H HH I J K L MM
a above adipose after ambar an and answer ant are arrow at attract balance band bar beetle before belongs below
bench bleeding blue boat bottom box bruma bus by can car cat chart choices choose circle circles circuit clock closed cold
color colour colours comes Name corvo correct count cross crosses cup delma describe diagram directly do document does dog down
each egg eight else empty epithelial equal erwin examine fibrous field fills find first five flower following follows for
form format fosca four fox from full gilda give given glandular glass goes green half has hat have heat heavier
heavy hesper high higher highest hot hour house how icon iduna image in inflamed inflammation ink integer is it jam
jorun key kind lamp large larger leads left letter like line lines liquid list log look low lower lowest lymphoid magnets
many map me medical middle minute more most muscular name needs net next nine no none not nothing number numbers
object objects of off on one option options or orange other owl panel phrase picture pie point points poles poster purple question
read red repel right ring rings rises rug say second see seven shape shapes short shortest show shown shows side sign
single six size slide small smaller marked beside smallest snowman species square squares stands star stars start starts state step
sun tall tallest tea tell temperature tent than that the there these thermometer thing things third this three time tissue
to top tree triangle triangles two up us use using value van warm was weather water way weight were what when where which
white who why will with word words write written yellow yes you your zero zoo
"""

WORDS: tuple[str, ...] = tuple(sorted({word.replace("'S", "'s") for word in TEXT.split()}))
"""The words, in lower or upper case as they are said, each once, in order."""
