//! Languages by their codes and their English names.
//!
//! contract: core §5.1 (names are stored, codes are accepted)

/// ISO 639-1: codes and names, in the order of the codes.
const LANGUAGES: &str = "aa Afar;ab Abkhazian;ae Avestan;af Afrikaans;ak Akan;am Amharic;an Aragonese;ar Arabic;as Assamese;\
    av Avaric;ay Aymara;az Azerbaijani;ba Bashkir;be Belarusian;bg Bulgarian;bi Bislama;bm Bambara;bn Bengali;\
    bo Tibetan;br Breton;bs Bosnian;ca Catalan;ce Chechen;ch Chamorro;co Corsican;cr Cree;cs Czech;\
    cu Church Slavonic;cv Chuvash;cy Welsh;da Danish;de German;dv Divehi;dz Dzongkha;ee Ewe;el Greek;en English;\
    eo Esperanto;es Spanish;et Estonian;eu Basque;fa Persian;ff Fulah;fi Finnish;fj Fijian;fo Faroese;fr French;\
    fy Western Frisian;ga Irish;gd Scottish Gaelic;gl Galician;gn Guarani;gu Gujarati;gv Manx;ha Hausa;\
    he Hebrew;hi Hindi;ho Hiri Motu;hr Croatian;ht Haitian Creole;hu Hungarian;hy Armenian;hz Herero;\
    ia Interlingua;id Indonesian;ie Interlingue;ig Igbo;ii Sichuan Yi;ik Inupiaq;io Ido;is Icelandic;it Italian;\
    iu Inuktitut;ja Japanese;jv Javanese;ka Georgian;kg Kongo;ki Kikuyu;kj Kuanyama;kk Kazakh;kl Kalaallisut;\
    km Khmer;kn Kannada;ko Korean;kr Kanuri;ks Kashmiri;ku Kurdish;kv Komi;kw Cornish;ky Kyrgyz;la Latin;\
    lb Luxembourgish;lg Ganda;li Limburgish;ln Lingala;lo Lao;lt Lithuanian;lu Luba-Katanga;lv Latvian;\
    mg Malagasy;mh Marshallese;mi Maori;mk Macedonian;ml Malayalam;mn Mongolian;mr Marathi;ms Malay;mt Maltese;\
    my Burmese;na Nauru;nb Norwegian Bokmål;nd North Ndebele;ne Nepali;ng Ndonga;nl Dutch;nn Norwegian Nynorsk;\
    no Norwegian;nr South Ndebele;nv Navajo;ny Chichewa;oc Occitan;oj Ojibwa;om Oromo;or Odia;os Ossetian;\
    pa Punjabi;pi Pali;pl Polish;ps Pashto;pt Portuguese;qu Quechua;rm Romansh;rn Rundi;ro Romanian;ru Russian;\
    rw Kinyarwanda;sa Sanskrit;sc Sardinian;sd Sindhi;se Northern Sami;sg Sango;si Sinhala;sk Slovak;\
    sl Slovenian;sm Samoan;sn Shona;so Somali;sq Albanian;sr Serbian;ss Swati;st Southern Sotho;su Sundanese;\
    sv Swedish;sw Swahili;ta Tamil;te Telugu;tg Tajik;th Thai;ti Tigrinya;tk Turkmen;tl Tagalog;tn Tswana;\
    to Tongan;tr Turkish;ts Tsonga;tt Tatar;tw Twi;ty Tahitian;ug Uyghur;uk Ukrainian;ur Urdu;uz Uzbek;ve Venda;\
    vi Vietnamese;vo Volapük;wa Walloon;wo Wolof;xh Xhosa;yi Yiddish;yo Yoruba;za Zhuang;zh Chinese;zu Zulu";

/// What people call their own language, where clients send that.
const OWN_NAMES: [(&str, &str); 7] = [
    ("français", "French"),
    ("francais", "French"),
    ("español", "Spanish"),
    ("espanol", "Spanish"),
    ("deutsch", "German"),
    ("italiano", "Italian"),
    ("português", "Portuguese"),
];

fn languages() -> impl Iterator<Item = (&'static str, &'static str)> {
    LANGUAGES.split(';').filter_map(|language| language.split_once(' '))
}

/// The English name of a language given by name or code; `fr`, `fr-FR`, `french` and `Français` are `French`.
pub fn english_name(given: &str) -> Option<&'static str> {
    let given = given.trim().to_lowercase();
    let name_of = |wanted: &dyn Fn(&str, &str) -> bool| {
        let found = languages().find(|(code, name)| wanted(code, name));
        found.map(|(_, name)| name)
    };
    if let Some(name) = name_of(&|_, name| name.to_lowercase() == given) {
        return Some(name);
    }
    if let Some((_, name)) = OWN_NAMES.iter().find(|(own, _)| *own == given) {
        return Some(name);
    }
    let (language, region) = given.split_once(['-', '_']).unwrap_or((&given, ""));
    let is_region = region.len() <= 8 && region.bytes().all(|byte| byte.is_ascii_alphanumeric());
    name_of(&|code, _| is_region && code == language)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_the_english_name() {
        for given in ["fr", "FR", "fr-FR", "fr_CA", "french", "French", " FRENCH ", "Français"] {
            assert_eq!(english_name(given), Some("French"), "{given}");
        }
        for unknown in ["", "xx", "fr-<b>", "Klingon", "french; drop", "f"] {
            assert_eq!(english_name(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn every_code_has_one_name_and_every_name_reads_back() {
        for (code, name) in languages() {
            assert_eq!(
                (english_name(code), english_name(name)),
                (Some(name), Some(name)),
                "{code}"
            );
        }
        assert!(languages().is_sorted_by(|one, next| one.0 < next.0));
        assert_eq!(languages().count(), 183);
    }
}
