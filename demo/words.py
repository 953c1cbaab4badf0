"""Words, names and places the tasks draw from, and random words that force copying instead of memory."""

from random import Random

from demo.split import Language

WORDS = """apple banana orange lemon bread cheese water coffee tea milk sugar salt table chair window door house garden tree flower
river mountain ocean island beach forest cloud rain snow wind sun moon star sky fire stone gold silver paper pencil book letter
music song dance paint picture camera clock watch phone computer keyboard screen mouse cable robot engine model name port server
client stream token pod node cluster train bicycle car boat plane bridge road street city village school teacher student doctor
friend brother sister mother father baby dog cat horse bird fish rabbit tiger lion bear monkey red green blue yellow black white
purple brown big small fast slow hot cold new old happy quiet loud soft hard round open closed sweet bright dark early late
hello world good morning night day week month year today kind clean fresh simple clever brave gentle winter spring summer autumn""".split()

HAN = tuple(
    "天地人山水火木金土日月星云风雨雪花草树石田河海江湖春夏秋冬东南西北上下左右前后大小多少长短高低新旧快慢红黄蓝绿白黑"
    "一二三四五六七八九十百千万马牛羊鱼鸟猫狗虎龙书笔纸车船门窗桌灯茶米面果瓜饭家国城路桥学生老师朋友爱心手口目耳力气光电"
)

NAMES = {
    Language.EN: """Anna Ben Clara David Emma Frank Grace Henry Ivy Jack Kate Leo Mary Nina Oscar Paul Rose Sam Tom Uma Victor Wendy Zoe
Alice Bob Carol Dan Eve Fred Gina Hugo Iris John Karen Lucy Max Nora Oliver Peter Ruth Simon Tina Walter Lily Mark Julia Eric""".split(),
    Language.ZH: """小明 小红 小华 小丽 小刚 小芳 小军 小美 小龙 小雪 王伟 李娜 张强 刘洋 陈静 杨光 赵敏 黄河 周杰 吴霞 徐亮 孙悦 马超 朱琳
胡斌 郭靖 林峰 何洁 高飞 罗兰 宋佳 谢天 唐宁 韩梅 冯雪 董明 萧红 程亮 曹云 袁月""".split(),
}

CITIES = {
    Language.EN: """Paris London Berlin Madrid Rome Vienna Tokyo Beijing Shanghai Sydney Cairo Delhi Moscow Oslo Athens Dublin Lisbon Prague
Boston Chicago Seattle Toronto Nairobi Lima Seoul Singapore Munich Geneva Milan Warsaw""".split(),
    Language.ZH: """北京 上海 广州 深圳 杭州 南京 武汉 成都 重庆 西安 天津 苏州 长沙 青岛 大连 厦门 昆明 郑州 济南 福州 合肥 沈阳 巴黎 伦敦 东京
柏林 罗马 纽约 首尔 悉尼""".split(),
}

COLOURS = {
    Language.EN: "red green blue yellow black white purple brown orange pink silver gold".split(),
    Language.ZH: "红色 绿色 蓝色 黄色 黑色 白色 紫色 棕色 橙色 粉色 银色 金色".split(),
}

_ONSETS = "b d f g k l m n p r s t v z".split()
_VOWELS = "a e i o u".split()


def random_word(rng: Random, syllables: int) -> str:
    """A word nobody has seen, made of syllables the tokenizer knows."""
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(syllables))


def random_han(rng: Random, length: int) -> str:
    """A string of common characters without meaning."""
    return "".join(rng.choice(HAN) for _ in range(length))


def name(rng: Random, language: Language) -> str:
    """A person's name; half of them made up, so that the model has to read the conversation."""
    return _known_or_new(NAMES[language], rng, language)


def city(rng: Random, language: Language) -> str:
    """A city; half of them made up, for the same reason."""
    return _known_or_new(CITIES[language], rng, language)


def _known_or_new(known: list[str], rng: Random, language: Language) -> str:
    if rng.random() < 0.5:
        return rng.choice(known)
    if language is Language.ZH:
        return random_han(rng, 2)
    return random_word(rng, rng.randint(2, 3)).capitalize()
