"""Every word the picture world says: the mini model's tokenizer holds each of them as one token."""

TEXT = """
'S A a above adipose after ambar an and Answer answer ant are arrow at attract B balance band bar beetle
before belongs below bench beside bleeding blue boat bottom box bruma bus by C can car cat chart choices
choose circle circles circuit clock closed cold colour colours comes correct corvo count cross crosses cup D
delma describe diagram directly do document does dog down E each egg eight else empty epithelial equal erwin
examine F fibrous field fills find first five flower following follows for form format fosca four fox from
full G gilda give given glandular glass goes green H half has hat have heat heavier heavy hesper HH high
higher highest hot hour house How how I icon iduna image in inflamed inflammation ink integer Is is it J jam
jorun K key kind L lamp large larger leads left letter like line lines liquid list log look low lower lowest
lymphoid magnets many map marked me medical middle minute MM more most muscular Name name needs net next
nine no none not nothing number numbers object objects of off On on one option options or orange other owl
panel phrase picture pie point points poles poster purple question read red repel right ring rings rises rug
say second see seven shape shapes short shortest show shown shows side sign single six size slide small
smaller smallest snowman species square squares stands star stars start starts state step sun tall tallest
tea tell temperature tent than that the there thermometer these thing things third this three time tissue to
top tree triangle triangles two up us use using value van warm was water way weight were What what when
where Which which white who why will with word words write written yellow yes you your zero zoo
"""

WORDS: tuple[str, ...] = tuple(sorted({word.replace("'S", "'s") for word in TEXT.split()}))
"""The words, in lower or upper case as they are said, each once, in order."""
